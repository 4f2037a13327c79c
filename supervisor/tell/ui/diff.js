// What of a text is left out when it is sent shortened, line by line.
import { count, el } from "./dom.js";

const SHOWN = 2000; // lines of one text that are drawn

/** The text of a message: its content, the texts of its parts, and its calls. */
export function spoken(m) {
	if (Array.isArray(m)) return m.map(spoken).join("\n");
	const text = typeof m.content === "string" ? m.content : Array.isArray(m.content) ?
		m.content.map(p => p.text ?? JSON.stringify(p)).join("\n") : "";
	return text + (m.tool_calls ? "\n" + JSON.stringify(m.tool_calls) : "");
}

/**
 * Lines as {way: "same" | "out" | "in", text}. What is sent keeps lines in their order and puts markers between them, so the next
 * line of the original that is the same is the one that was kept: linear, where a general difference would be square.
 */
export function difference(before, after) {
	const from = before.split("\n"), to = after.split("\n"), places = new Map(), out = [];
	from.forEach((l, i) => (places.get(l) ?? places.set(l, []).get(l)).push(i));
	const used = new Map(); // of each line: how many of its places are behind us
	let at = 0;
	for (const line of to) {
		const where = places.get(line) ?? [];
		let n = used.get(line) ?? 0;
		while (n < where.length && where[n] < at) n++;
		used.set(line, n);
		if (n === where.length) {
			out.push({ way: "in", text: line });
			continue;
		}
		for (; at < where[n]; at++) out.push({ way: "out", text: from[at] });
		out.push({ way: "same", text: line });
		at++;
	}
	for (; at < from.length; at++) out.push({ way: "out", text: from[at] });
	return out;
}

/** These lines, marked for eyes and for readers. */
export function shownLines(lines) {
	const names = { same: " ", out: "−", in: "+" };
	return el("div", { class: "lines", tabindex: "0", role: "region", "aria-label": "Lines" }, lines.slice(0, SHOWN).map(l =>
		el("div", { "data-way": l.way }, el("span", {}, names[l.way]), l.text)),
	lines.length > SHOWN ? el("p", { class: "soft" }, `and ${count(lines.length - SHOWN)} more lines`) : null);
}
