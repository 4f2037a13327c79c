// What this page asks its gateway: documents, and the stream of events. The key, where one is needed, lives in this tab's
// session alone and is sent as a header: never in an address, which logs and histories keep.

const KEY = "tandem-key";
let key = "";
try { key = sessionStorage.getItem(KEY) ?? ""; } catch { /* it lasts as long as the page */ }

let wanted = null; // a promise of a key, while somebody is asked for one
let askForKey = () => Promise.reject(new Error("no key"));

/** How a person is asked for a key: a function of a text (why), which gives a promise of the key. */
export function onKeyWanted(ask) { askForKey = ask; }

export function authorization() { return key ? { Authorization: "Bearer " + key } : {}; }

function newKey() {
	wanted ??= askForKey(key ? "That key is not known here." : "").then(given => {
		key = given;
		try { sessionStorage.setItem(KEY, key); } catch { /* see above */ }
	}).finally(() => { wanted = null; });
	return wanted;
}

/** fetch() with the key; asks for one where it is needed, and tries again. */
export async function send(path, options = {}) {
	for (;;) {
		const sent = key;
		const r = await fetch(path, { ...options, headers: { ...options.headers, ...authorization() },
			cache: "no-store", credentials: "omit", redirect: "error" });
		if (r.status !== 401) return r;
		await r.body?.cancel();
		if (sent === key) await newKey();
	}
}

/** A document of the gateway by its name ("status", "request/ID"); null where there is none of that name. Else an error says why. */
export async function ask(name, options) {
	const r = await send("api/" + name, options);
	if (r.status === 404) return null;
	if (r.ok) return r.json();
	const said = await r.json().catch(() => null);
	throw new Error(said?.error ?? "the gateway answers " + r.status);
}

/** The payloads of a body of server-sent events, as they come. */
export async function* messages(body) {
	const reader = body.pipeThrough(new TextDecoderStream()).getReader();
	let text = "";
	try {
		for (;;) {
			const { value, done } = await reader.read();
			if (done) return;
			text += value;
			const parts = text.split(/\r?\n\r?\n/);
			text = parts.pop();
			for (const part of parts) {
				const data = part.split(/\r?\n/).filter(l => l.startsWith("data:"))
					.map(l => l.slice(5).trimStart());
				if (data.length) yield data.join("\n");
			}
		}
	} finally {
		reader.cancel().catch(() => {});
	}
}

const pause = ms => new Promise(done => setTimeout(done, ms));
const shown = () => !document.hidden;
const becomesShown = () => shown() ? Promise.resolve() : new Promise(done => {
	const look = () => {
		if (!shown()) return;
		document.removeEventListener("visibilitychange", look);
		done();
	};
	document.addEventListener("visibilitychange", look);
});

/**
 * Hands each event to hear(), for as long as the page lives and is looked at: browsers allow six connections to a server,
 * and pages that nobody sees shall not hold them. state(true) while the stream is open.
 */
export async function listen(hear, state) {
	for (let wait = 250; ; wait = Math.min(wait * 2, 5000)) {
		await becomesShown();
		const stop = new AbortController();
		const hide = () => { if (!shown()) stop.abort(); };
		document.addEventListener("visibilitychange", hide);
		try {
			const r = await send("api/events", { signal: stop.signal });
			if (r.ok) {
				state(true);
				for await (const data of messages(r.body)) {
					wait = 250;
					hear(JSON.parse(data));
				}
			}
		} catch { /* it ended: the gateway is replaced, or gone, or nobody looks */ }
		document.removeEventListener("visibilitychange", hide);
		state(false);
		await pause(wait);
	}
}

/** Calls step() again and again, every so many ms after it ended, while the page is looked at. Returns how to stop it. */
export function every(ms, step) {
	let on = true;
	(async () => {
		while (on) {
			await becomesShown();
			if (!on) return;
			await step();
			await pause(ms);
		}
	})();
	return () => { on = false; };
}
