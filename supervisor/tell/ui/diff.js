// What of a text is left out when it is sent shortened, line by line.
import { bytes, count, el } from "./dom.js";

const SHOWN = 2000; // lines that are drawn in one go, and
const LONG = 2000, LONGER = 20000; // characters of one line: at first, and with each step more
const FOLD = 40, EDGE = 6; // a stretch of more lines of one kind is folded, but for its edges
const COMPARED = 4_000_000; // characters of a text: larger ones are not compared here

const names = { same: " ", out: "−", in: "+" };

/** The text of a message: its content, the texts of its parts, and its calls. */
export function spoken(m) {
	if (Array.isArray(m)) return m.map(spoken).join("\n");
	const text = typeof m.content === "string" ? m.content : Array.isArray(m.content) ?
		m.content.map(p => p.text ?? JSON.stringify(p)).join("\n") : "";
	return text + (m.tool_calls ? "\n" + JSON.stringify(m.tool_calls) : "");
}

/**
 * Stretches of lines, {way: "same" | "out" | "in", lines}. What is sent keeps lines in their order and puts markers between them, so the
 * next line of the original that is the same is the one that was kept: linear, where a general difference would be square.
 */
export function difference(before, after) {
	const from = before.split("\n"), to = after.split("\n"), places = new Map(), out = [];
	const put = (way, l) => out.at(-1)?.way === way ? out.at(-1).lines.push(l) : out.push({ way, lines: [l] });
	from.forEach((l, i) => (places.get(l) ?? places.set(l, []).get(l)).push(i));
	const used = new Map(); // of each line: how many of its places are behind us
	let at = 0;
	for (const line of to) {
		const where = places.get(line) ?? [];
		let n = used.get(line) ?? 0;
		while (n < where.length && where[n] < at) n++;
		used.set(line, n);
		if (n === where.length) {
			put("in", line);
			continue;
		}
		if (where[n] > at) out.push({ way: "out", lines: from.slice(at, where[n]) });
		put("same", line);
		at = where[n] + 1;
	}
	if (at < from.length) out.push({ way: "out", lines: from.slice(at) });
	return out;
}

/** How many lines of those stretches are of these kinds. */
export const lineCount = (runs, ...ways) => runs.reduce((n, r) => n + (ways.includes(r.way) ? r.lines.length : 0), 0);

// --- lines as elements ---

/** So much of a text, and what stays of it behind a button. */
function piece(text, from, most) {
	let to = Math.min(from + most, text.length);
	if (to < text.length && (text.charCodeAt(to - 1) & 0xfc00) === 0xd800) to--; // no half of a character
	if (to === text.length) return [text.slice(from, to)];
	const more = el("button", { type: "button", class: "more", onclick: () => more.replaceWith(...piece(text, to, LONGER)) },
		`… ${count(text.length - to)} more characters`);
	return [text.slice(from, to), more];
}

const line = (way, text) => el("div", { "data-way": way }, el("span", {}, names[way]), piece(text, 0, LONG));

/** Stretches from the one at `i`, of it from line `from` on: as many lines as are drawn in one go, and a button for the others. */
function some(runs, i = 0, from = 0) {
	const made = [];
	for (let room = SHOWN; i < runs.length && room > 0;) {
		const { way, lines, folded } = runs[i];
		const n = folded ? lines.length : Math.min(room, lines.length - from);
		made.push(...folded ? [unfold(runs[i])] : lines.slice(from, from + n).map(l => line(way, l)));
		room -= folded ? 1 : n;
		from += n;
		if (from >= lines.length) [i, from] = [i + 1, 0];
	}
	if (i < runs.length) {
		const left = runs.slice(i).reduce((n, r) => n + r.lines.length, -from);
		const more = el("button", { type: "button", class: "more", onclick: () => more.replaceWith(...some(runs, i, from)) },
			`… ${count(left)} more lines`);
		made.push(more);
	}
	return made;
}

function unfold({ way, lines }) {
	const b = el("button", { type: "button", class: "more", "data-way": way, onclick: () => b.replaceWith(...some([{ way, lines }])) },
		`… ${count(lines.length)} lines ${way === "out" ? "left out" : way === "in" ? "put there" : "kept"}`);
	return b;
}

const folds = ({ way, lines }) => lines.length <= FOLD ? [{ way, lines }] : [{ way, lines: lines.slice(0, EDGE) },
	{ way, lines: lines.slice(EDGE, -EDGE), folded: true }, { way, lines: lines.slice(-EDGE) }];

/** These lines, marked for eyes and for readers; long stretches folded where that is asked for. */
export function shownLines(runs, { folded = false } = {}) {
	return el("div", { class: "lines", tabindex: "0", role: "region", "aria-label": "Lines" }, some(folded ? runs.flatMap(folds) : runs));
}

// --- a message as it was, and as it was sent ---

const other = o => `${o.type}, ${bytes(o.bytes)}${o.sent ? "" : ", left out"}`;

/** m: a message of the gateway's content document: what of it was sent, and what was not. */
export function shownMessage(m) {
	const parts = m.others.length ? el("p", { class: "soft" }, "Not shown: " + m.others.map(other).join("; ")) : null;
	if (m.before.length + (m.after ?? "").length > COMPARED)
		return [el("p", {}, `Its ${count(m.before.length)} characters are too many to be compared here.`), parts];
	const runs = m.sent === "shortened" ? difference(m.before, m.after) :
		m.before ? [{ way: m.sent === "nothing" ? "out" : "same", lines: m.before.split("\n") }] : [];
	const out = lineCount(runs, "out"), all = lineCount(runs, "out", "same");
	const told = m.sent === "whole" ? "It was sent as it came." : m.sent === "nothing" ? "All of it is left out." :
		`${count(out)} of ${count(all)} lines are left out.`;
	return [el("p", {}, told), runs.length ? shownLines(runs, { folded: true }) : null, parts];
}
