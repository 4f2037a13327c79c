// A list of any length that costs what is seen of it: rows of one height, of which only those in view exist. It is one stop
// of the Tab key; arrows move within it, as in a listbox (ARIA Authoring Practices).
import { el } from "./dom.js";

const SPARE = 6; // rows made above and below what is seen

export class List {
	/** row(item): the element of a row; key(item): what it is known by; chosen(item or null). */
	constructor({ label, height, row, key, chosen }) {
		Object.assign(this, { height, row, key, chosen, items: [], made: new Map(), active: null });
		this.space = el("div", { class: "space" });
		this.element = el("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": label,
			onkeydown: e => this.#key(e), onscroll: () => this.#later() }, this.space);
		this.id = "list-" + label.replace(/\W+/g, "-");
		// What is opened beside a list makes it smaller: what is chosen stays in view.
		new ResizeObserver(() => { this.#reveal(); this.#later(); }).observe(this.element);
	}

	/** Other items. One that is the same object is not drawn again; `fresh`: all are. */
	set(items, fresh = false) {
		const at = this.element.scrollTop, before = this.items;
		this.items = items;
		if (fresh) this.#clear();
		// What is looked at stays where it is when newer rows come above it.
		if (at > this.height && before.length) {
			const first = before[Math.floor(at / this.height)], was = Math.floor(at / this.height);
			const now = first ? items.findIndex(i => this.key(i) === this.key(first)) : -1;
			if (now >= 0 && now !== was) {
				this.space.style.height = items.length * this.height + "px";
				this.element.scrollTop = at + (now - was) * this.height;
			}
		}
		this.#later();
	}

	/** The items whose rows exist now. */
	seen() {
		const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - SPARE);
		const n = Math.ceil(this.element.clientHeight / this.height) + 2 * SPARE;
		return this.items.slice(first, first + n);
	}

	choose(item) {
		this.active = item ? this.key(item) : null;
		this.#reveal();
		this.#later();
		this.chosen?.(item);
	}

	/** The row of this item is to be made anew. */
	forget(item) {
		const m = this.made.get(this.key(item));
		if (m) m.item = null;
	}

	refresh() { this.#later(); }

	#clear() {
		for (const m of this.made.values()) m.element.remove();
		this.made.clear();
	}

	#later() {
		this.due ??= requestAnimationFrame(() => { this.due = undefined; this.#draw(); });
	}

	#draw() {
		if (!this.element.isConnected) return;
		const first = Math.max(0, Math.floor(this.element.scrollTop / this.height) - SPARE);
		const seen = this.seen(), keep = new Set();
		this.space.style.height = this.items.length * this.height + "px";
		seen.forEach((item, i) => {
			const k = this.key(item);
			let m = this.made.get(k);
			keep.add(k);
			if (!m || m.item !== item) {
				const element = this.row(item);
				element.setAttribute("role", "option");
				element.id = this.id + "-" + String(k).replace(/\W+/g, "-");
				element.addEventListener("click", () => this.choose(item));
				m ? m.element.replaceWith(element) : this.space.append(element);
				m = { element, item };
				this.made.set(k, m);
			}
			m.element.style.transform = `translateY(${(first + i) * this.height}px)`;
			m.element.setAttribute("aria-selected", String(k === this.active));
			m.element.setAttribute("aria-posinset", String(first + i + 1));
			m.element.setAttribute("aria-setsize", String(this.items.length));
			if (k === this.active) this.element.setAttribute("aria-activedescendant", m.element.id);
		});
		for (const [k, m] of this.made)
			if (!keep.has(k)) {
				m.element.remove();
				this.made.delete(k);
			}
		this.drawn?.(seen);
	}

	#key(e) {
		const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
		const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
		if (e.key === "Escape" && this.active !== null) {
			this.choose(null);
			e.stopPropagation();
		}
		if (!(e.key in steps) || !this.items.length) return;
		e.preventDefault();
		const now = this.items.findIndex(i => this.key(i) === this.active);
		const to = Math.max(0, Math.min(this.items.length - 1, now < 0 && e.key !== "End" ? 0 : now + steps[e.key]));
		this.choose(this.items[to]);
	}

	#reveal() {
		const at = this.active === null ? -1 : this.items.findIndex(i => this.key(i) === this.active);
		const top = at * this.height, box = this.element;
		if (at < 0) return;
		if (top < box.scrollTop) box.scrollTop = top;
		else if (top + this.height > box.scrollTop + box.clientHeight) box.scrollTop = top + this.height - box.clientHeight;
	}
}
