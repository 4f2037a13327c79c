// Elements, and words for numbers. Text is only ever set as text: nothing that a model or a client says becomes markup.

/** el("p", {class: "x", onclick: f, "aria-label": "..."}, "text", child, ...) */
export function el(name, props = {}, ...children) {
	const e = document.createElement(name);
	for (const [k, v] of Object.entries(props)) {
		if (v === undefined || v === null || v === false) continue;
		if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
		else if (k in e && k !== "list" && typeof v !== "string") e[k] = v;
		else e.setAttribute(k, v === true ? "" : v);
	}
	e.append(...children.flat().filter(c => c !== null && c !== undefined && c !== false));
	return e;
}

/** Children anew, without touching what is the same: a text that does not change is not announced again. */
export function put(e, ...children) {
	if (children.length === 1 && typeof children[0] === "string") {
		if (e.textContent !== children[0]) e.textContent = children[0];
	} else {
		e.replaceChildren(...children.flat().filter(c => c !== null && c !== undefined && c !== false));
	}
}

const whole = new Intl.NumberFormat("en");
export const count = n => n === null || n === undefined ? "–" : whole.format(Math.round(n));

export function ms(n) {
	if (n === null || n === undefined) return "–";
	if (n < 1000) return Math.round(n) + " ms";
	if (n < 60000) return (n / 1000).toFixed(n < 10000 ? 2 : 1) + " s";
	const s = Math.floor(n / 1000), h = Math.floor(s / 3600), m = Math.floor(s / 60) % 60;
	return h ? h + " h " + m + " min" : m + " min " + s % 60 + " s";
}

export function bytes(n) {
	if (n === null || n === undefined) return "–";
	const units = ["B", "KB", "MB", "GB", "TB"];
	let i = 0;
	for (; n >= 1000 && i < units.length - 1; i++) n /= 1000;
	return (i && n < 100 ? n.toFixed(1) : Math.round(n)) + " " + units[i];
}

/** Memory as the driver's tools have it. */
export const memory = n => n === null || n === undefined ? "–" : (n / 2 ** 30).toFixed(1) + " GiB";

export const clock = at => new Date(at).toLocaleTimeString("en-GB");

/** A bar with its value in words beside it, for eyes and for readers. */
export function meter(label, value, max, words) {
	const share = max > 0 ? Math.min(value / max, 1) : 0;
	const fill = el("span", { class: "fill" + (share > 0.9 ? " full" : "") });
	fill.style.width = (share * 100).toFixed(1) + "%";
	return el("div", { class: "meter" }, el("span", { class: "label" }, label),
		el("span", { class: "bar", role: "meter", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": String(max),
			"aria-valuenow": String(value), "aria-valuetext": words }, fill),
		el("span", { class: "value" }, words));
}

/** A small table; rows of cells, numbers to the right where the head says so with a ">" before its name. */
export function table(caption, head, rows) {
	const right = head.map(h => h.startsWith(">"));
	const cell = (tag, c, i) => el(tag, { class: right[i] ? "num" : undefined, scope: tag === "th" ? "col" : undefined }, c);
	return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
		el("table", {}, el("caption", {}, caption),
			el("thead", {}, el("tr", {}, head.map((h, i) => cell("th", h.replace(/^>/, ""), i)))),
			el("tbody", {}, rows.map(r => el("tr", {}, r.map((c, i) => cell("td", c ?? "–", i)))))));
}

export const facts = pairs => el("dl", { class: "facts" },
	pairs.filter(p => p).map(([k, v]) => el("div", {}, el("dt", {}, k), el("dd", {}, v ?? "–"))));

export const pill = text => el("span", { class: "pill", "data-state": text }, text ?? "–");

/** A part of a whole as a bar. */
export function share(part, all, what) {
	const fill = el("i", { class: "part" });
	fill.style.width = (all > 0 ? Math.min(part / all, 1) * 100 : 0) + "%";
	return el("span", { class: "share", role: "img", "aria-label": `${count(part)} of ${count(all)} ${what}` }, fill);
}
