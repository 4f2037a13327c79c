// The requests that the gateway remembers, for all views that tell of them: asked for whole once, then only what is new.
import { ask } from "./net.js";

const ALL = 1000, NEWEST = 40, AT_ONCE = 4;

export const history = {
	rows: [], // newest first; a row that is over stays the same object
	there: true, // the gateway keeps such a record
	whole: new Map(), // requests with their steps by id: {over, steps, messages, ...}

	steps(r) { return this.whole.get(r.request)?.steps ?? []; },

	async refresh() {
		const whole = !this.rows.length;
		let got = await ask("requests/" + (whole ? ALL : NEWEST));
		if (!got) {
			this.there = false;
			return;
		}
		this.there = true;
		const known = new Map(this.rows.map(r => [r.request, r]));
		// More are new than were asked for: all of them, then.
		const gap = !whole && got.requests.length >= NEWEST && !got.requests.some(r => known.get(r.request)?.over);
		if (gap) got = await ask("requests/" + ALL) ?? got;
		const told = new Set(got.requests.map(r => r.request));
		const fresh = got.requests.map(r => {
			r.over = r.state !== "running";
			const before = known.get(r.request);
			return before?.over ? before : r;
		});
		const older = whole || gap ? [] : this.rows.filter(r => !told.has(r.request) && r.over);
		this.rows = fresh.concat(older).sort((a, b) => b.begun_at_ms - a.begun_at_ms).slice(0, ALL);
		const kept = new Set(this.rows.map(r => r.request));
		for (const id of this.whole.keys()) if (!kept.has(id)) this.whole.delete(id);
	},

	/** Brings the steps of these rows, a few at once; true when any came. Those of one that is over are asked for once. */
	async bring(rows) {
		const wanted = rows.filter(r => !this.whole.get(r.request)?.over);
		const one = async () => {
			for (let r; (r = wanted.shift());) {
				const whole = await ask("request/" + encodeURIComponent(r.request));
				this.whole.set(r.request, { ...whole, over: whole?.state !== "running" });
			}
		};
		const any = wanted.length > 0;
		await Promise.all(Array.from({ length: AT_ONCE }, one));
		return any;
	},
};
