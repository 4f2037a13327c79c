// A prompt, tried on several ways one after the other, with times and answers side by side; or only explained.
import { ask, messages, send } from "./net.js";
import { difference, lineCount, shownLines, spoken } from "./diff.js";
import { bytes, count, el, facts, ms, pill, put, table } from "./dom.js";

// The ways that a request may ask for (docs/routing.md), and what tandem would choose by itself.
const WAYS = [["", "as tandem decides"], ["A", "A: unchanged"], ["B", "B: shortened"], ["C", "C: in chunks"]];

/** The body of what is typed: a conversation as JSON, or one question. */
function body(text, model, most) {
	let b = null;
	if (text.trimStart().startsWith("{")) {
		b = JSON.parse(text);
		if (!Array.isArray(b.messages)) throw new Error("a JSON object is tried when it has messages");
	} else {
		b = { messages: [{ role: "user", content: text }] };
	}
	return { ...b, model: model || b.model, max_tokens: most, stream: true, stream_options: { include_usage: true } };
}

/** A first line of its own keeps each run from finding the one before it in the cache. */
function cold(b) {
	const mark = "Run " + crypto.getRandomValues(new Uint32Array(1))[0].toString(16) + ".";
	return { ...b, messages: [{ role: "system", content: mark }, ...b.messages] };
}

/** What is left out of each message, and what stands there instead; only those that are others. */
function changes(before, after) {
	if (!after) return null;
	const pairs = before.length === after.length ? before.map((m, i) => [i, m, after[i]]) : [[null, before, after]];
	return el("div", { class: "changes" }, pairs.filter(([, a, b]) => spoken(a) !== spoken(b)).map(([i, a, b]) => {
		const runs = difference(spoken(a), spoken(b));
		return el("details", {}, el("summary", {}, `${i === null ? "The whole" : "Message " + i}: ${count(lineCount(runs, "out"))} of ` +
			`${count(lineCount(runs, "out", "same"))} lines are left out`), shownLines(runs));
	}));
}

class Run {
	constructor(title) {
		this.state = pill("waits");
		this.facts = el("div", {});
		this.text = el("pre", { class: "answer", tabindex: "0", "aria-label": "Answer: " + title });
		this.element = el("section", { class: "card run", "aria-label": title, "data-run": title }, el("div", { class: "card-head" }, el("h2", {}, title), this.state),
			this.facts, this.text);
	}

	say(state) {
		put(this.state, state);
		this.state.dataset.state = state;
	}

	async go(b, way, signal) {
		const began = performance.now(), since = () => performance.now() - began;
		let first = null, usage = null, said = "";
		this.say("running");
		const r = await send("../v1/chat/completions", { method: "POST", body: JSON.stringify(b), signal,
			headers: { "Content-Type": "application/json", ...(way ? { "X-Tandem-Route": way } : {}) } });
		const h = n => r.headers.get("X-Tandem-" + n);
		const tell = () => put(this.facts, facts([["way", h("Strategy")], ["why", h("Reason")], ["device", h("Device")],
			["tokens", h("Tokens") + (usage ? `, ${count(usage.prompt_tokens)} read, ${count(usage.completion_tokens)} written` : "")],
			["first token", ms(first)], ["all of it", ms(since())]]));
		if (!r.ok) {
			this.say("failed");
			put(this.text, (await r.text()).slice(0, 4000));
			tell();
			return;
		}
		for await (const data of messages(r.body)) {
			if (data === "[DONE]") break;
			const m = JSON.parse(data), delta = m.choices?.[0]?.delta ?? {};
			if (m.error) throw new Error(m.error.message);
			const piece = delta.content ?? delta.reasoning_content ?? "";
			usage = m.usage ?? usage;
			if (!piece) continue;
			first ??= since();
			said += piece;
			put(this.text, said);
			tell();
		}
		tell();
		this.say("done");
	}
}

export function trial() {
	let stop = null;
	const models = el("select", { "aria-label": "Model" });
	const text = el("textarea", { rows: 6, "aria-label": "Prompt", placeholder: "A question, or a request as JSON with its messages", spellcheck: "false" });
	const most = el("input", { type: "number", min: "1", max: "100000", value: "256", "aria-label": "Tokens to answer with" });
	const fresh = el("input", { type: "checkbox", checked: true });
	const ways = WAYS.map(([way, title], i) => [way, title, el("input", { type: "checkbox", checked: i < 2 })]);
	const go = el("button", { type: "submit", class: "first" }, "Try it"), halt = el("button", { type: "button", disabled: true, onclick: () => stop?.abort() }, "Stop");
	const why = el("button", { type: "button", onclick: explain }, "Explain");
	const wrong = el("p", { class: "bad", role: "alert" }), out = el("div", { class: "cards" });
	const form = el("form", { class: "trial", onsubmit: e => { e.preventDefault(); run(); } }, text,
		el("div", { class: "bar-of-tools" }, el("label", {}, "model ", models), el("label", {}, "at most ", most, " tokens"),
			ways.map(([, title, box]) => el("label", {}, box, " " + title)), el("label", { title: "A first line of its own for each run" }, fresh, " nothing cached"),
			go, halt, why));
	text.addEventListener("keydown", e => { if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) form.requestSubmit(); });
	const element = el("div", {}, el("p", { class: "soft" }, "Runs go one after the other, as requests like any other: they wait their turn and are counted."),
		form, wrong, out);

	function given() {
		put(wrong, "");
		if (!text.value.trim()) return put(wrong, "there is nothing to try yet");
		try {
			return body(text.value, models.value, Math.max(1, Number(most.value) || 256));
		} catch (e) {
			put(wrong, "this is not understood: " + e.message);
		}
	}

	async function run() {
		const b = given(), chosen = ways.filter(([, , box]) => box.checked);
		if (!b || stop) return;
		if (!chosen.length) return put(wrong, "no way is chosen");
		const runs = chosen.map(([way, title]) => [way, new Run(title)]);
		put(out, ...runs.map(([, r]) => r.element));
		stop = new AbortController();
		halt.disabled = false;
		go.disabled = true;
		for (const [way, r] of runs) {
			try {
				if (stop.signal.aborted) r.say("stopped");
				else await r.go(fresh.checked ? cold(b) : b, way, stop.signal);
			} catch (e) {
				r.say(stop.signal.aborted ? "stopped" : "failed");
				if (!stop.signal.aborted) put(r.text, r.text.textContent + "\n" + e.message);
			}
		}
		stop = null;
		halt.disabled = true;
		go.disabled = false;
	}

	async function explain() {
		const b = given();
		if (!b) return;
		try {
			const r = await send("../v1/chat/completions", { method: "POST", body: JSON.stringify(b),
				headers: { "Content-Type": "application/json", "X-Tandem-Explain": "body" } });
			const x = await r.json();
			if (!r.ok) return put(wrong, x.error?.message ?? "the gateway answers " + r.status);
			put(out, el("section", { class: "card wide", "aria-label": "Explained" }, el("div", { class: "card-head" }, el("h2", {}, "What would be done"), pill(x.outcome)),
				facts([["way", x.strategy], ["why", x.reason], ["device", x.device], ["layout", x.layout],
					["tokens", `${count(x.tokens_in)} in, ${count(x.tokens_sent)} sent, room for ${count(x.room_tokens)}`]]),
				table("Messages", [">", "role", "level", ">bytes in", ">bytes out", ">tokens in", ">tokens out", "why"], (x.messages ?? []).map(m =>
					[count(m.index), m.role, m.level, bytes(m.bytes_in), bytes(m.bytes_out), count(m.tokens_in), count(m.tokens_out), m.reason])),
				changes(b.messages, x.body?.messages)));
		} catch (e) {
			put(wrong, e.message);
		}
	}

	async function fill() {
		try {
			const b = await ask("backends"), names = [...new Set(b.backends.flatMap(d => [d.model, ...d.model_list.map(m => m.name)]).filter(n => n))];
			if (names.join("\n") !== [...models.options].map(o => o.value).join("\n"))
				put(models, ...names.map(n => el("option", { value: n }, n)));
		} catch { /* the pulse tells */ }
	}

	return { name: "trial", title: "Try", element, show: fill, hide() {} };
}
