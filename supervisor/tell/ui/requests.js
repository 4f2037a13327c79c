// Requests as a waterfall: each with its steps, over the devices that worked for it.
import { ask, every } from "./net.js";
import { shownMessage } from "./diff.js";
import { clock, count, el, facts, ms, pill, put, share, table } from "./dom.js";
import { List } from "./list.js";
import { history } from "./history.js";

const LEGEND = ["read", "queue", "condense", "notes", "prefill", "decode", "answer", "warm", "heartbeat", "fallback"];

/** 1, 2 or 5 times a power of ten, so that a scale changes seldom. */
function nice(n) {
	const p = 10 ** Math.floor(Math.log10(Math.max(n, 1)));
	return [1, 2, 5, 10].map(f => f * p).find(v => v >= n);
}

export function requests() {
	let mains = new Set(), stop = null, shared = false, opened = "", wanted = "";
	const filter = el("input", { type: "search", placeholder: "filter: id, model, way, device, state", "aria-label": "Filter of requests",
		oninput: draw });
	const together = el("input", { type: "checkbox", onchange: () => { shared = together.checked; scale(); } });
	const told = el("p", { class: "soft", role: "status" });
	const axis = el("p", { class: "soft axis" });
	const detail = el("section", { class: "detail", hidden: true, "aria-label": "One request" });
	const list = new List({ label: "Requests", height: 34, key: r => r.request, row, chosen: choose });
	const element = el("div", { class: "fill-page" }, el("div", { class: "bar-of-tools" }, filter,
		el("label", {}, together, " on one clock"), told),
		el("p", { class: "legend", "aria-hidden": "true" }, LEGEND.map(k => el("span", { "data-kind": k }, k)),
			el("b", {}, "above: main devices, below: the others")), axis, list.element, detail);

	// Its own device above, the others below.
	const lane = (r, s) => s.device && (mains.size ? !mains.has(s.device) : s.device !== r.device) ? "1" : "0";

	function bar(r, s) {
		const b = el("i", { class: "step", "data-kind": s.kind, "data-outcome": s.outcome, "data-lane": lane(r, s),
			title: `${s.kind}${s.device ? " on " + s.device : ""}: ${ms(s.ms)}, from ${ms(s.start_ms)}${s.why ? ": " + s.why : ""}` });
		b.style.setProperty("--s", s.start_ms);
		b.style.setProperty("--n", s.ms);
		return b;
	}

	function row(r) {
		const e = el("div", { class: "row request", "data-state": r.state, "data-request": r.request },
			el("time", {}, clock(r.begun_at_ms)), el("span", { class: "id" }, r.request),
			el("span", { class: "way", "data-way": r.strategy }, r.strategy ?? "…"),
			el("span", { class: "model" }, r.model ?? r.path), el("span", { class: "num tokens" }, r.tokens_in ? count(r.tokens_in) : ""),
			el("span", { class: "num first" }, r.first_ms === null ? "" : ms(r.first_ms)), el("span", { class: "num total" }, ms(r.ms)),
			el("span", { class: "track" }, history.steps(r).map(s => bar(r, s))));
		e.setAttribute("aria-label", `${r.request}, ${r.state}, way ${r.strategy ?? "not known yet"}, ${r.model ?? r.path}, ${ms(r.ms)}`);
		e.style.setProperty("--o", shared ? r.begun_at_ms - list.origin : 0);
		return e;
	}

	/** What the tracks of the rows in view span. */
	function scale() {
		const seen = list.seen();
		if (!seen.length) return;
		list.origin = Math.min(...seen.map(r => r.begun_at_ms));
		const span = nice(Math.max(...seen.map(r => (shared ? r.begun_at_ms - list.origin : 0) + (r.ms ?? 0))));
		list.element.style.setProperty("--span", span);
		for (const r of seen) {
			const made = list.made.get(r.request);
			made?.element.style.setProperty("--o", shared ? r.begun_at_ms - list.origin : 0);
		}
		put(axis, shared ? `tracks: ${ms(span)} from ${clock(list.origin)}` : `tracks: ${ms(span)} from each request's beginning`);
	}

	/** The steps of what is in view, and their rows anew. */
	let bringing = false;
	async function bring() {
		if (bringing) return;
		bringing = true;
		const seen = list.seen(), known = new Set(seen.filter(r => history.whole.get(r.request)?.over).map(r => r.request));
		try {
			if (await history.bring(seen)) {
				for (const r of seen) if (!known.has(r.request)) list.forget(r);
				list.refresh();
			}
		} catch { /* the pulse tells */ }
		bringing = false;
	}
	list.origin = 0;
	list.drawn = () => { scale(); bring(); };

	function draw() {
		const words = filter.value.toLowerCase().split(/\s+/).filter(w => w);
		const text = r => [r.request, r.model, r.strategy, r.device, r.state, r.path, r.key, r.dialect].join(" ").toLowerCase();
		const rows = words.length ? history.rows.filter(r => words.every(w => text(r).includes(w))) : history.rows;
		list.set(rows);
		put(told, history.there ? `${count(rows.length)} of ${count(history.rows.length)} requests` : "this gateway keeps no record of requests");
	}

	async function choose(r) {
		opened = r?.request ?? "";
		detail.hidden = !r;
		if (!r) return;
		history.whole.delete(r.request); // something may have come after its end
		try {
			await history.bring([r]);
			if (opened !== r.request) return;
			show(r);
			await tellContent(r);
		} catch { /* the pulse tells */ }
	}

	/** Whether the texts of its messages are there: its rows open to them, or it is said why not. */
	async function tellContent(r) {
		const said = detail.querySelector(".content"), rows = detail.querySelectorAll('[aria-label^="Messages"] tbody tr');
		const lost = history.whole.get(r.request)?.messages_lost ?? 0;
		let c;
		try {
			do {
				if (c) await new Promise(done => setTimeout(done, 100));
				c = await ask("content/" + encodeURIComponent(r.request));
			} while (c?.content === "coming" && said.isConnected);
		} catch (e) {
			if (said.isConnected) put(said, e instanceof TypeError ? "The gateway does not answer." : e.message);
			return;
		}
		if (!c || !said.isConnected) return;
		put(said, c.why || (rows.length ? "A message opens to what was left out of it." :
			"Its texts are kept, but no row of a message is that would open to them: limits.request_messages."));
		said.dataset.content = c.content;
		if (c.content === "kept") rows.forEach((row, i) => openable(row, `content/${encodeURIComponent(r.request)}/${lost + i}`));
	}

	/** The row of a message opens to its text, and closes again. */
	function openable(row, name) {
		const cell = row.cells[0], b = el("button", { type: "button", class: "opener", "aria-expanded": "false" }, cell.textContent);
		let under = null;
		put(cell, el("span", {}, b));
		row.classList.add("opens");
		row.addEventListener("click", async () => {
			b.setAttribute("aria-expanded", String(!under));
			if (under) {
				under.remove();
				under = null;
				return;
			}
			const box = el("td", { colspan: String(row.cells.length) }, "…"), mine = under = el("tr", { class: "text" }, box);
			row.after(under);
			try {
				const m = await ask(name);
				if (under === mine) put(box, ...m ? shownMessage(m) : ["It is kept no more."]);
			} catch (e) {
				put(box, e.message);
			}
		});
	}

	function show(r) {
		const { steps = [], messages = [], messages_lost: lost = 0 } = history.whole.get(r.request) ?? {};
		put(detail, el("h2", {}, r.request, " ", pill(r.state)),
			facts([["began", new Date(r.begun_at_ms).toLocaleString("en-GB")], ["asked", `${r.method} ${r.path}`], ["dialect", r.dialect],
				["model", r.model], ["way", r.strategy], ["why", r.reason], ["device", r.device], ["key", r.key],
				["status", r.status && String(r.status)], ["tokens", `${count(r.tokens_in)} in, ${count(r.tokens_sent)} sent, ` +
					`${count(r.cached_tokens)} warm, ${count(r.output_tokens)} out`],
				r.session ? ["conversation", el("a", { href: "#sessions/" + r.session }, String(r.session))] : null,
				["beginning", r.prefix], ["times", `${ms(r.first_ms)} to the first byte, ${ms(r.ms)} in all, ${ms(r.queued_ms)} of it in the queue`]]),
			table("Steps", ["step", "device", ">from", ">length", "outcome", "why", ">tokens", ">warm", ">times"], steps.map(s =>
				[el("span", { class: "kind", "data-kind": s.kind }, s.kind), s.device, ms(s.start_ms), ms(s.ms), s.outcome, s.why,
					count(s.tokens), count(s.cached_tokens), count(s.count)])),
			el("p", { class: "soft content", role: "status" }),
			messages.length ? table("Messages as they were sent" + (lost ? `, without the first ${count(lost)}` : ""),
				[">", "role", "level", ">bytes in", ">bytes out", "", "why"], messages.map((m, i) => [count(lost + i), m.role, m.level,
					count(m.bytes_in), count(m.bytes_out), share(m.bytes_out, m.bytes_in, "bytes kept"), m.reason])) : null);
	}

	/** What an address names, once it is there. */
	function find() {
		const r = wanted && history.rows.find(r => r.request === wanted);
		if (!r) return;
		wanted = "";
		list.choose(r);
	}

	return { name: "requests", title: "Requests", element,
		show() {
			stop = every(1000, async () => {
				try {
					await history.refresh();
				} catch { return; }
				draw();
				find();
			});
		},
		hide() { stop?.(); },
		open(id) { wanted = id; find(); },
		status(s) { mains = new Set(s.devices.filter(d => d.roles.includes("main")).map(d => d.name)); } };
}
