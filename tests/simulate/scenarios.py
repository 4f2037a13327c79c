"""The scenarios: what is asked, on which cards, and how each arm's client goes about it. play() runs one arm of one scenario in one round
and returns plain figures."""

import concurrent.futures
import contextlib
import dataclasses
import os
import random
import time

import cold
import corpus
import measure
import profiles
import shapes
from talk import Talk
from world import World

COMPACT_AT = 0.9  # of the window: where clients begin to write a summary
SUMMARY_TOKENS = {16384: 1000, 32768: 1500, 65536: 2000}
COMPACT_ASK = "Write a summary of this conversation so far, so that the work can go on from it alone: the task, what was done, what was " \
    "found, which files matter, what comes next. Write nothing else."
ONE_SHOT_SIZES = (2000, 4000, 8000, 11000, 16000, 24000, 32000, 40000)
LEARN_SHOTS, JUDGED_SHOTS = 10, 10
BREAK_EVERY = 5  # calls, in the session whose client changes a line of its system prompt
THRESHOLD_CALLS = 16  # of a session in that mode: each call costs minutes, for notes are written of the whole prompt again
DIRECT, COMPACT, THRESHOLD, ADAPTIVE = "direct", "compact", "threshold", "adaptive"
# Adaptive as well: all that is small goes to the main card, too; there is nothing small.
NO_LANE, ALONE = "adaptive, no lane", "adaptive, alone"
SIDES_AT_ONCE = 8
SIDE_MOST_TOKENS = 4000  # of a side request; the session beside which it stands begins with more


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    what: str
    kind: str  # session, interleaved, titles, beside, breaks, shots, learn
    window: int = 65536
    first: int = 8000
    calls: int = 46
    pair: str = "rtx2060s+gtx1050"
    small: str = "ready"
    backend: str = "llama-server"
    host_cache: bool = True
    arms: tuple = (DIRECT, THRESHOLD, ADAPTIVE)
    sizes: tuple = ()
    factor: float = 1  # what the rates that were learned before are wrong by
    smoke: bool = False

    @property
    def cards(self):
        return profiles.PAIRS[self.pair]


BOTH = (DIRECT, ADAPTIVE)
LONG = (DIRECT, COMPACT, THRESHOLD, ADAPTIVE)
BESIDE = (ALONE, DIRECT, NO_LANE, ADAPTIVE)
SICK_SIZES = (3000, 11000, 24000)
SCENARIOS = [
    Scenario("fits-8k", "session that fits: 8K first, 46 calls, window 64K", "session"),
    Scenario("fits-25k", "session that fits: 25K first, 46 calls, window 64K", "session", first=25000, arms=LONG),
    Scenario("long-16k", "beyond the window: 8K first, 150 calls, window 16K", "session", window=16384, calls=150, arms=LONG),
    Scenario("long-32k", "beyond the window: 8K first, 150 calls, window 32K", "session", window=32768, calls=150, arms=LONG),
    Scenario("long-25k-32k", "beyond the window: 25K first, 46 calls, window 32K", "session", window=32768, first=25000, arms=LONG),
    Scenario("shots", "single cold prompts of 2K to 40K", "shots", sizes=ONE_SHOT_SIZES),
    Scenario("two", "two sessions in turns on one slot, 2 x 20 calls, window 64K", "interleaved", calls=20),
    Scenario("two-no-cache", "the same without llama-server's host cache", "interleaved", calls=20, host_cache=False, arms=BOTH),
    Scenario("titles", "chat of 20 turns, a title request after each", "titles", calls=20),
    Scenario("titles-no-cache", "the same without llama-server's host cache", "titles", calls=20, host_cache=False, arms=BOTH),
    Scenario("beside", "session that fits: 8K first, 30 turns of a person, four small requests beside each: title, tags, follow-ups, completion",
             "beside", calls=30, arms=BESIDE),
    Scenario("beside-no-cache", "the same without llama-server's host cache", "beside", calls=30, host_cache=False, arms=BESIDE),
    Scenario("breaks", "a client that changes a line of its system prompt every 5 calls", "breaks", calls=20),
    *[Scenario(f"small-{state}", f"main card of 800 tok/s, small one {state}: session of 12 calls, then three single prompts",
               "session", calls=12, pair="power-limited", small=state, sizes=SICK_SIZES)
      for state in ("dead", "silent", "slow", "loading", "absent")],
    Scenario("rates-x3", "rates learned before 3 times too high, then 20 single prompts", "learn", factor=3, arms=BOTH),
    Scenario("rates-/3", "rates learned before 3 times too low, then 20 single prompts", "learn", factor=1 / 3, arms=BOTH),
    Scenario("ollama-fits-8k", "session that fits, Ollama as the main backend: 8K first, 46 calls", "session", backend="ollama", arms=BOTH),
]
SMOKE = [
    Scenario("fits-8k", "session that fits: 8K first, 10 calls, window 64K", "session", calls=10),
    Scenario("long-16k", "beyond the window: 8K first, 30 calls, window 16K", "session", window=16384, calls=30, arms=LONG),
    Scenario("shots", "single cold prompts of 2K, 11K, 32K", "shots", sizes=(2000, 11000, 32000)),
    Scenario("titles", "chat of 6 turns, a title request after each", "titles", calls=6),
    Scenario("beside", "session that fits: 8K first, 6 turns of a person, four small requests beside each", "beside", calls=6, arms=BESIDE),
    Scenario("small-dead", "small card dead: session of 6 calls, then a single prompt", "session", calls=6, pair="power-limited",
             small="dead", sizes=(11000,)),
]


def ask_side(port, text, most):
    """A small request, in a process of its own."""
    with contextlib.closing(Talk(port, "main")) as talk:
        return talk.ask([{"role": "user", "content": text}], max_tokens=most)


class Play:
    """One arm of one scenario."""

    def __init__(self, spec, arm, world, speed):
        self.spec, self.arm, self.world, self.speed = spec, arm, world, speed
        self.talk = Talk(world.port, "main", world.pids())
        self.waits = []  # [(answers whose waits add up: a summary and the call it was for, size, tokens that are new in it)]
        self.problems = []
        self.overflows = self.unanswered = self.summaries = 0
        self.sides = []  # answers to small requests beside the session
        self.calls = min(spec.calls, THRESHOLD_CALLS) if arm == THRESHOLD else spec.calls

    def pause(self, seconds):
        """A gap of the client; nothing that is measured."""
        time.sleep(seconds / self.speed)

    def ask(self, messages, before=(), size=None, new=None, tools=None, **more):
        answer = self.talk.ask(messages, tools, **more)
        if answer.ok:
            self.waits.append(([*before, (answer, False)], size, new))
        elif answer.overflow:
            self.overflows += 1
        else:
            self.problems.append(f"{answer.status} {answer.error[:200]}")
        return answer

    # --- an agent's session ---

    def session(self, s, broken=False):
        """Generator: one call each time; ends early where an agent would have to give up."""
        messages = [{"role": "system", "content": s.system}, {"role": "user", "content": s.task}]
        size, new = 0, None
        for i, step in enumerate(s.steps):
            if broken:
                messages[0] = {"role": "system", "content": f"Current time: {9 + i // BREAK_EVERY}:00\n" + s.system}
            before = ()
            if self.arm == COMPACT and size > COMPACT_AT * self.spec.window and len(messages) > 4:
                messages, before, saved = self.compact(s, messages)
                size -= saved
            self.world.main.say(s.marker, s.marker, step.text, step.tool, step.args)
            answer = self.ask(messages, before, new=new, tools=s.tools, max_tokens=2048)
            if not answer.ok:
                self.unanswered += len(s.steps) - i
                return
            if not answer.calls and answer.cut:  # the window ended in the middle of the answer
                self.overflows += 1
                self.waits.pop()
                self.unanswered += len(s.steps) - i
                return
            if not answer.calls:
                self.problems.append(f"call {i}: {answer.text[:60]!r} without the tool call that was scripted")
                self.unanswered += len(s.steps) - i
                return
            messages += [answer.message(), {"role": "tool", "tool_call_id": answer.calls[0]["id"], "content": step.result}]
            new = corpus.tokens(step.result)
            size = corpus.tokens(s.system + str(s.tools) + "".join(str(m) for m in messages[1:]))
            yield step.gap_s

    def compact(self, s, messages):
        """The client's own way: the main card writes a summary of all but the newest call, which takes its place."""
        want = SUMMARY_TOKENS[self.spec.window]
        text = shapes.corpus.prose_of(random.Random(len(messages)), want)
        self.world.main.say(s.marker, s.marker, text)
        old, newest = messages[:-2], messages[-2:]
        answer = self.talk.ask(old + [{"role": "user", "content": COMPACT_ASK}], s.tools, max_tokens=2 * want)
        if not answer.ok:
            self.overflows += answer.overflow
            self.problems += [] if answer.overflow else [f"summary: {answer.status} {answer.error[:200]}"]
            return messages, (), 0
        self.summaries += 1
        new = messages[:2] + [{"role": "assistant", "content": answer.text}, {"role": "user", "content": "Go on."}] + newest
        saved = sum(corpus.tokens(str(m)) for m in messages) - sum(corpus.tokens(str(m)) for m in new)
        return new, [(answer, True)], saved

    def play_session(self, seed):
        for gap in self.session(shapes.session(seed, self.spec.first, self.calls)):
            self.pause(gap)
        self.play_shots(seed)

    def play_breaks(self, seed):
        for gap in self.session(shapes.session(seed, self.spec.first, self.calls), broken=True):
            self.pause(gap)

    def play_interleaved(self, seed):
        both = [self.session(shapes.session(seed * 2 + i, self.spec.first, self.calls)) for i in (0, 1)]
        for gaps in zip(*both):
            self.pause(min(gaps))

    # --- chats and single prompts ---

    def play_titles(self, seed):
        marker, turns = shapes.chat(seed, self.calls)
        self.world.main.say("title", "### Task:", '{ "title": "Where it fails" }')
        messages = []
        for turn in turns:
            messages.append({"role": "user", "content": turn.question})
            self.world.main.say(marker, marker, turn.answer)
            answer = self.ask(messages)
            if not answer.ok:
                self.unanswered += 1
                return
            messages.append(answer.message())
            title = self.talk.ask([{"role": "user", "content": shapes.title_request(turn)}], max_tokens=50)
            if not title.ok:
                self.problems.append(f"title: {title.status} {title.error[:200]}")
            self.pause(turn.gap_s)

    # --- small requests beside a session ---

    def play_beside(self, seed):
        """A person's turns: the interface asks for four small things as soon as an answer is there, and the person for the next when it is
        read, whether those have come or not."""
        self.world.say_sides()
        turns = shapes.chat(seed, self.calls)[1]
        s = shapes.session(seed, self.spec.first, self.calls)
        with concurrent.futures.ProcessPoolExecutor(SIDES_AT_ONCE) as pool:  # threads would wait for each other, and be taken for cards
            asked = []
            for turn, _ in zip(turns, self.session(s)):
                if self.arm != ALONE:
                    asked += [pool.submit(ask_side, self.world.port, *request) for request in shapes.side_requests(turn)]
                self.pause(turn.gap_s)
            self.sides = [a.result() for a in asked]
        self.problems += [f"beside: {a.status} {a.error[:200]}" for a in self.sides if not a.ok]

    def shot(self, seed, size):
        marker, text = shapes.one_shot(seed, size)
        self.world.main.say("shot", marker, "It fails when memory runs out; its callers answer with an error and go on.")
        self.ask([{"role": "user", "content": text}], size=size, max_tokens=256)

    def play_shots(self, seed):
        for size in self.spec.sizes:
            self.shot(seed, size)
            self.pause(5)

    def play_learn(self, seed, learn_only=False):
        rng = random.Random(f"learn {seed}")
        sizes = [rng.choice((6000, 8000, 11000, 16000, 20000)) for _ in range(LEARN_SHOTS + JUDGED_SHOTS)]
        for i, size in enumerate(sizes[:LEARN_SHOTS] if learn_only else sizes):
            self.shot(seed * 1000 + i + 500 * learn_only, size)
            self.pause(2)

    # --- figures ---

    def result(self):
        requests, sides_of_main = self.world.requests(), 0
        if self.spec.kind == "beside":  # what runs beside a call is no part of it
            every = requests["main"]
            requests = {"main": [r for r in every if (r.get("prompt_tokens") or 0) > SIDE_MOST_TOKENS]}
            sides_of_main = len(every) - len(requests["main"])
        calls, own = [], []
        for answers, size, new in self.waits:
            parts = [measure.wait_s(a, requests, self.speed, to_end) for a, to_end in answers]
            last = answers[-1][0]
            used = measure.answering(requests["main"], last) or {}
            calls.append({"wait_s": sum(p[0] for p in parts), "size": size, "summary": len(answers) > 1, "route": last.route, "reason": last.reason,
                          "prompt": used.get("prompt_tokens"), "cached": used.get("cached_tokens"), "new": new})
            own += [p[1] for p in parts]
        if self.spec.kind == "session" and not self.spec.sizes:
            cold.explain(calls, self.world.tandem and self.world.tandem.log_path)
        judged = calls[LEARN_SHOTS:] if self.spec.kind == "learn" else calls
        prompt = sum(c["prompt"] or 0 for c in judged[1:])
        routes = {}
        for c in calls:
            routes[c["route"] or "-"] = routes.get(c["route"] or "-", 0) + 1
        waits = [c["wait_s"] for c in judged]
        return {"calls": calls, "answered": len(calls), "unanswered": self.unanswered, "overflows": self.overflows,
                "summaries": self.summaries, "sum_s": sum(waits), "p95_s": measure.p95(waits), "routes": routes,
                "cached": sum(c["cached"] or 0 for c in judged[1:]) / prompt if prompt else None,
                "own_ms": measure.p95(own), "cut_short": self.calls < self.spec.calls and self.spec.kind not in ("shots", "learn"), "problems": self.problems, "small_jobs": len(requests.get("small", ())),
                "beside": len(self.sides), "beside_main": sides_of_main}


def play(spec, arm, seed, speed, modes, folder):
    """One arm in one round; folder is this play's own."""
    state = os.path.join(folder, "state")
    if spec.kind == "learn" and arm == ADAPTIVE:
        # Rates as a card would teach them that is that much faster: the way they get wrong, whatever keeps them.
        taught = World(os.path.join(folder, "before"), arm, spec, speed, modes, state, main_factor=spec.factor)
        with contextlib.closing(Closing(taught)):
            Play(spec, arm, taught, speed).play_learn(seed, learn_only=True)
    world = World(os.path.join(folder, "world"), arm, spec, speed, modes, state)
    with contextlib.closing(Closing(world)):
        p = Play(spec, arm, world, speed)
        try:
            getattr(p, "play_" + spec.kind)(seed)
        finally:
            p.talk.close()
        return p.result()


class Closing:
    def __init__(self, world):
        self.close = world.stop
