// The page: its views, one of which is shown; what all of them share (theme, key, keyboard, the pulse of the gateway).
import { ask, every, listen, onKeyWanted } from "./net.js";
import { count, el, put } from "./dom.js";
import { devices } from "./devices.js";
import { requests } from "./requests.js";
import { sessions } from "./sessions.js";
import { prompts } from "./prompts.js";
import { events } from "./events.js";
import { trial } from "./trial.js";
import { doctor } from "./doctor.js";

// Each: {name, title, element, show(), hide(), hear?(event), status?(document)}
const views = [devices(), requests(), sessions(), prompts(), events(), trial(), doctor()];
const $ = id => document.getElementById(id);
let current = null;

// --- views ---

function go() {
	const [name, ...rest] = location.hash.slice(1).split("/");
	const to = views.find(v => v.name === name) ?? views[0];
	if (to !== current) {
		current?.hide();
		current = to;
		put($("main"), to.element);
		document.title = to.title + " · tandem";
		for (const a of document.querySelectorAll("#tabs a"))
			a.toggleAttribute("aria-current", a.hash === "#" + to.name);
		const tab = document.querySelector("#tabs a[aria-current]");
		tab?.setAttribute("aria-current", "page");
		tab?.scrollIntoView({ block: "nearest", inline: "nearest" }); // on a telephone they do not all fit
		to.show();
	}
	to.open?.(rest.join("/"));
}

put($("tabs"), ...views.map((v, i) => el("li", {}, el("a", { href: "#" + v.name, "aria-keyshortcuts": String(i + 1) }, v.title))));
addEventListener("hashchange", go);

// --- theme ---

function turn() {
	const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
	document.documentElement.dataset.theme = dark ? "light" : "dark";
	try { localStorage.setItem("tandem-theme", document.documentElement.dataset.theme); } catch { /* for now */ }
	dispatchEvent(new Event("themechange"));
}
$("theme").addEventListener("click", turn);
$("keys").addEventListener("click", () => $("help").showModal());

// --- key ---

onKeyWanted(why => new Promise(done => {
	const box = $("login"), field = $("key");
	put($("login-error"), why);
	field.value = "";
	const close = () => {
		const value = field.value.trim();
		field.value = "";
		if (!value) return box.showModal(); // there is nothing to see without
		if (/[^\x21-\x7e]/.test(value)) { // no header can carry it
			put($("login-error"), "That is no key.");
			return box.showModal();
		}
		box.removeEventListener("close", close);
		done(value);
	};
	box.addEventListener("close", close);
	box.showModal();
	field.focus();
}));

// --- keyboard ---

const typing = e => e.target.closest?.("input, textarea, select, dialog");
addEventListener("keydown", e => {
	if (e.ctrlKey || e.metaKey || e.altKey || typing(e)) return;
	if (e.key >= "1" && e.key <= String(views.length)) location.hash = views[Number(e.key) - 1].name;
	else if (e.key === "t") turn();
	else if (e.key === "?") $("help").showModal();
	else if (e.key === "/") {
		const filter = current.element.querySelector("input[type=search]");
		if (!filter) return;
		e.preventDefault();
		filter.focus();
	}
});

// --- the pulse ---

function pulse(status, error) {
	const well = status && status.devices.every(d => d.state === "ready");
	$("pulse").dataset.state = error ? "bad" : well ? "good" : "warn";
	put($("pulse-text"), error ? "no answer" : `${count(status.requests.total)} requests · ${status.queue.waiting} waiting · ` +
		`${status.devices.filter(d => d.state === "ready").length}/${status.devices.length} devices`);
}

every(1000, async () => {
	try {
		const status = await ask("status");
		pulse(status);
		for (const v of views) v.status?.(status);
	} catch (e) {
		pulse(null, e);
	}
});
listen(event => { for (const v of views) v.hear?.(event); }, open => {
	$("pulse").dataset.stream = open ? "open" : "closed";
	if (open) for (const v of views) v.opened?.();
});
go();
