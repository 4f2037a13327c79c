// Before anything is drawn, so that nothing flashes. A blocked storage means: as the system has it.
try {
	const theme = localStorage.getItem("tandem-theme");
	if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch { /* as the system has it */ }
