// What `tandemctl doctor` says of this gateway: it looks when this is opened or the button is pressed, never by itself.
import { ask } from "./net.js";
import { clock, count, el, facts, memory, ms, pill, put } from "./dom.js";

// What is looked at, by its id (docs/doctor.md).
export const LOOKS = {
	"away": "devices that are not ready",
	"open-port": "this gateway open to the network without keys",
	"open-backend": "backends open to the network",
	"cpu": "models on the processor",
	"window-spills": "windows that the GPU does not hold",
	"window-other": "models loaded with another window",
	"reloads": "models that are loaded anew",
	"models": "several models loaded at once",
	"keep-alive": "models that are unloaded soon",
	"prefix": "prompts that change at their beginning",
	"shared-slot": "more conversations than slots",
	"split": "models on several unequal GPUs",
	"flash-attention": "work without flash attention",
	"cache-type": "a cache wider than it needs to be",
	"speculation": "guessing ahead that is not used",
	"slots": "more slots than the backend has",
	"small-slow": "a small device slower than the main one",
	"restarts": "workers and backends that end by themselves",
	"failures": "jobs that fail",
	"window-cuts": "prompts that the window does not hold",
	"notes": "notes that are of no use",
	"idle-gpu": "GPUs that do nothing",
	"idle-device": "devices that answer nothing",
};
const words = id => LOOKS[id] ?? id;

// The unit of a number stands at the end of its name.
const UNITS = [["_tok_s", n => (n < 100 ? n.toFixed(1) : count(n)) + " tokens/s"], ["_tokens", n => count(n) + " tokens"], ["_bytes", memory],
	["_percent", n => Math.round(n) + " %"], ["_ms", ms], ["_s", n => ms(n * 1000)]];

function number([name, value]) {
	const [unit, say] = UNITS.find(([u]) => name.endsWith(u)) ?? ["", name === "port" ? String : count];
	return [name.slice(0, name.length - unit.length).replaceAll("_", " "), value === null ? null : say(value)];
}

const finding = f => el("article", { class: "card finding", "data-finding": f.id, "data-device": f.device ?? "" },
	el("div", { class: "card-head" }, pill(f.severity), el("h2", {}, words(f.id)), el("span", { class: "soft" }, f.device ?? "the whole gateway"), el("code", { class: "soft" }, f.id),
		f.lost_s === null ? null : el("span", { class: "lost" }, ms(f.lost_s * 1000) + " lost")),
	el("p", {}, f.what), el("p", {}, el("strong", {}, "To do: "), f.advice),
	Object.keys(f.measured).length ? facts(Object.entries(f.measured).map(number)) : null);

const looks = (title, why, ids) => el("section", { class: "card", "aria-label": title },
	el("div", { class: "card-head" }, el("h2", {}, title), el("span", { class: "soft" }, why)),
	el("ul", { class: "looks" }, ids.map(id => el("li", { "data-look": id }, words(id)))));

export function doctor() {
	let asking = null, seen = ""; // what was told of what is shown
	const button = el("button", { type: "button", onclick: look }, "Look again");
	const told = el("p", { class: "soft", role: "status" });
	const wrong = el("p", { class: "bad", role: "alert" });
	const found = el("div", { class: "findings" });
	const element = el("div", {}, el("div", { class: "bar-of-tools" }, button, told), wrong, found);

	function draw(r) {
		const named = new Set([...r.unknown, ...r.findings.map(f => f.id)]), fine = r.looked_at.filter(id => !named.has(id));
		put(told, seen = `${r.findings.length || "no"} finding${r.findings.length === 1 ? "" : "s"} · looked at ${r.looked_at.length} things at ${clock(r.at_ms)}`);
		put(found, ...r.findings.map(finding),
			r.findings.length ? null : el("p", { class: "card" }, "Nothing was found that costs time or stands open."),
			fine.length ? looks("Looked at", "and nothing was found", fine) : null,
			r.unknown.length ? looks("Not looked at", "because the backend does not tell, or too little has happened", r.unknown) : null);
	}

	async function look() {
		const mine = asking = new AbortController();
		button.disabled = true;
		put(wrong, "");
		put(told, "looking");
		let report = null, why = "This gateway has no doctor for a page.";
		try {
			report = await ask("doctor", { signal: mine.signal });
		} catch (e) {
			why = e instanceof TypeError ? "The gateway does not answer." : e.message;
		}
		if (mine !== asking) return;
		button.disabled = false;
		if (report) return draw(report);
		put(told, seen);
		put(wrong, why);
	}

	function stop() {
		asking?.abort();
		asking = null;
		button.disabled = false;
		put(told, seen);
	}

	return { name: "doctor", title: "Doctor", element, show: look, hide: stop };
}
