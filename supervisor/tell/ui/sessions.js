// Conversations: how much of each turn was warm, and where a prefix broke.
import { ask, every } from "./net.js";
import { count, el, facts, ms, pill, put, share, table } from "./dom.js";
import { List } from "./list.js";
import { history } from "./history.js";

const place = s => ({ newest: "in the cache", slot: "in a slot", evicted: "gone from the cache" })[s.place] ?? s.place;

export function sessions() {
	let stop = null, opened = null, wanted = "", latest = [];
	const breaks = new Map(); // conversation -> what was heard of its prefix, newest first
	const told = el("p", { class: "soft", role: "status" });
	const detail = el("section", { class: "detail", hidden: true, "aria-label": "One conversation" });
	const list = new List({ label: "Conversations", height: 34, key: s => s.session, row, chosen: choose });
	const element = el("div", { class: "fill-page" }, el("div", { class: "bar-of-tools" }, told,
		el("span", { class: "legend", "aria-hidden": "true" }, el("span", { "data-kind": "notes" }, "warm"), el("span", { "data-kind": "prefill" }, "cold"))), list.element, detail);

	function row(s) {
		return el("div", { class: "row session", "data-session": String(s.session) }, el("span", { class: "id" }, "#" + s.session),
			el("span", { class: "model" }, s.model), el("span", {}, s.client ?? s.address), el("span", { class: "num" }, count(s.turns) + " turns"),
			el("span", { class: "num" }, count(s.tokens) + " tokens"), share(s.cached_tokens, s.tokens, "tokens warm"),
			el("span", { class: s.breaks ? "num bad" : "num" }, s.breaks ? count(s.breaks) + " breaks" : "kept"),
			el("span", { class: "num soft idle" }, ms(s.idle_ms) + " ago"));
	}

	/** Turns of it that the gateway still remembers; oldest first. */
	function turns(s) {
		const of = history.rows.filter(r => r.session === s.session && r.over).reverse();
		if (!of.length) return null;
		return table("Turns", ["request", "way", ">tokens sent", ">warm", ">cold", "", ">first byte", "prefix"], of.map(r =>
			[el("a", { href: "#requests/" + r.request }, r.request), r.strategy, count(r.tokens_sent), count(r.cached_tokens),
				count(r.cached_tokens === null ? null : Math.max(0, r.tokens_sent - r.cached_tokens)), share(r.cached_tokens ?? 0, r.tokens_sent, "tokens warm"),
				ms(r.first_ms), r.prefix ?? ""]));
	}

	function heard(s) {
		const of = breaks.get(s.session);
		if (!of) return null;
		return table("Changes of its beginning since this page was opened", ["request", "kind", ">message", ">byte", ">tokens", ">cost", ""],
			of.map(e => [e.req, e.kind, e.message >= 0 ? count(e.message) : null, e.byte === undefined ? null : count(e.byte),
				e.tokens === undefined ? null : count(e.tokens), e.ms === undefined ? null : ms(e.ms), e.repaired ? "repaired" : ""]));
	}

	function show(s) {
		put(detail, el("h2", {}, "Conversation " + s.session, " ", pill(s.place)),
			facts([["model", s.model], ["device", s.device], ["from", s.client ?? s.address], ["messages", count(s.messages)],
				["newest turn", `${count(s.tokens)} tokens, ${count(s.cached_tokens)} of them warm, ${count(s.output_tokens)} answered`],
				["in the cache", `${count(s.warm_tokens)} tokens; ${place(s)}`],
				["levels", `${count(s.fixed_tokens)} fixed, ${count(s.l0_tokens)} whole, ${count(s.l1_tokens)} shortened, ` +
					`${count(s.digest_tokens)} in digests, ${count(s.cut_tokens)} cut`],
				["breaks", `${count(s.breaks)}, ${count(s.lost_tokens)} tokens lost; ${count(s.repairs)} repaired`],
				s.last_change ? ["broke last", `${s.last_change}${s.last_message === null ? "" : ", message " + s.last_message}` +
					`${s.last_byte === null ? "" : ", byte " + count(s.last_byte)}${s.last_repaired ? ", repaired" : ""}`] : null]),
			turns(s), heard(s));
	}

	function choose(s) {
		opened = s?.session ?? null;
		detail.hidden = !s;
		if (s) show(s);
	}

	function find() {
		const s = wanted && latest.find(s => String(s.session) === wanted);
		if (s) {
			wanted = "";
			list.choose(s);
		}
	}

	return { name: "sessions", title: "Conversations", element,
		show() {
			stop = every(1500, async () => {
				try {
					latest = (await ask("sessions")).sessions;
					await history.refresh();
				} catch { return; }
				list.set(latest);
				put(told, latest.length ? `${count(latest.length)} conversations are remembered` : "no conversation is remembered");
				find();
				const s = latest.find(s => s.session === opened);
				if (s) show(s);
			});
		},
		hide() { stop?.(); },
		open(id) { wanted = id; find(); },
		hear(e) {
			if (e.event !== "prefix") return;
			breaks.set(e.conversation, [e, ...(breaks.get(e.conversation) ?? []).slice(0, 49)]);
			if (breaks.size > 500) breaks.delete(breaks.keys().next().value);
		} };
}
