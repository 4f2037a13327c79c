"""What the page shows is what the gateway's documents say; by mouse, by keyboard alone, on a telephone, in both themes, with keys,
and through the end of a tandemd."""

import json
import re
import time

import pytest
from playwright.sync_api import expect

from conftest import attached
from harness import alive, in_thread, wait_for
from test_access import KEY, OTHER, bearer, guarded, keys, line  # noqa: F401 - two fixtures
from test_control import nvml  # noqa: F401 - a fixture
from test_doctor import doctor
from test_routes import prompt
from test_ui_doctor import HELD, place, placed  # noqa: F401 - two fixtures
from test_upgrade import upgradable  # noqa: F401 - a fixture

VIEWS = ["devices", "requests", "sessions", "prompts", "events", "trial", "doctor"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


def number(text):
    return int(re.sub(r"\D", "", text))


def shown(n):
    return f"{n:,}"


def asked(t, n=9):
    """n requests of three sizes: A, B, C in turn; their ids, the newest first."""
    ids = []
    for i in range(n):
        size = (3, 3568, 10981)[i % 3]
        status, headers, _ = t.chat(f"hi {i}" if size == 3 else prompt(size), stream=True)
        assert status == 200
        ids.insert(0, headers["X-Tandem-Request-Id"])
    t.wait_idle()
    return ids


def row(p, rid):
    return p.page.locator(f'[data-request="{rid}"]')


# --- each view ---


def test_devices(pair, browse):
    t, a, b = pair()
    asked(t, 6)
    p = browse(t)
    for d in t.status()["devices"]:
        card = p.page.locator(f'[data-device="{d["name"]}"]')
        expect(card.locator(".pill")).to_have_text("ready")
        expect(card).to_contain_text(d["backend"]["model"])
        expect(card).to_contain_text(f"{shown(d['backend']['window'])} tokens")
        expect(card).to_contain_text(f"{shown(d['jobs']['done'])} done, 0 failed")
        expect(card).to_contain_text(f"pid {d['pid']},")
        expect(card.locator("canvas").first).to_be_visible()
    expect(p.page.locator("#main")).to_contain_text("6 chats (A 2, B 2, C 2")
    expect(p.page.locator("#pulse-text")).to_have_text("6 requests · 0 waiting · 2/2 devices")
    # As it is now: one runs, one is cancelled, a device is drained.
    a.fault(times=1, fault="hang")
    c = in_thread(lambda: t.chat("never", stream=True))
    expect(p.page.locator('[data-device="gpu0"] [role=meter]').first).to_have_attribute("aria-valuetext", "1 of 4 in use")
    t.command(f"cancel {t.command('jobs')['jobs'][0]['request']}")
    c.join()
    expect(p.page.locator('[data-device="gpu0"] [role=meter]').first).to_have_attribute("aria-valuetext", "0 of 4 in use")
    t.command("drain gpu1")
    expect(p.page.locator('[data-device="gpu1"] .pill')).to_have_text("drained")
    assert p.page.locator("#pulse").get_attribute("data-state") == "warn"


def test_gpus(fake, tandem, nvml, browse):  # noqa: F811
    """What the driver says, with the device that is pinned to it; what it does not say is no number."""
    a, b = fake("main"), fake("small", model=("s:0.5b",))
    t = tandem([attached(a, pin="0"), {**attached(b, "gpu1", ("condense",), pin="1"), "model": "s:0.5b"}], env=nvml)
    p = browse(t)
    first, second = (p.page.locator(f'[data-device="{n}"]') for n in ("gpu0", "gpu1"))
    meter = lambda card, name: card.get_by_role("meter", name=name)  # noqa: E731
    expect(meter(first, "memory")).to_have_attribute("aria-valuetext", "60.0 GiB of 80.0 GiB")
    expect(meter(first, "load")).to_have_attribute("aria-valuetext", re.compile("^87 %, "))
    expect(meter(second, "memory")).to_have_attribute("aria-valuetext", "1.0 GiB of 4.0 GiB")
    expect(meter(second, "load")).to_have_attribute("aria-valuetext", "– %, – °C")
    for card in (first, second):
        expect(card.get_by_role("img", name=re.compile("^GPU"))).to_be_visible()
    expect(first.get_by_role("img", name=re.compile("^GPU"))).to_have_attribute("aria-label", re.compile("load 87 %, memory 75 % now"))


def test_requests_and_their_steps(pair, browse):
    t, a, _ = pair()
    ids = asked(t)
    p = browse(t, "#requests")
    for rid in ids:
        r = t.command(f"request {rid}")
        e = row(p, rid)
        expect(e.locator(".way")).to_have_text(r["strategy"])
        expect(e.locator(".tokens")).to_have_text(shown(r["tokens_in"]))
        expect(e.locator(".total")).to_have_text(f"{r['ms']} ms")
        expect(e.locator(".step")).to_have_count(len(r["steps"]))
        assert e.locator(".step").evaluate_all("all => all.map(s => s.dataset.kind)") == [s["kind"] for s in r["steps"]]
        lanes = e.locator(".step").evaluate_all("all => all.map(s => s.dataset.lane)")
        assert lanes == ["1" if s["device"] == "gpu1" else "0" for s in r["steps"]]
    # Steps stand where their times say.
    r = t.command(f"request {ids[0]}")
    span = float(p.page.locator(".list").evaluate("e => e.style.getPropertyValue('--span')"))
    track = row(p, ids[0]).locator(".track").bounding_box()
    for s, box in zip(r["steps"], row(p, ids[0]).locator(".step").all()):
        at = box.bounding_box()
        assert abs(at["x"] - track["x"] - s["start_ms"] / span * track["width"]) < 2
    row(p, ids[0]).click()
    detail = p.page.get_by_role("region", name="One request")
    expect(detail).to_contain_text(r["reason"])
    steps = detail.get_by_role("region", name="Steps").locator("tbody tr")
    expect(steps).to_have_count(len(r["steps"]))
    assert [c.inner_text() for c in steps.locator("td:nth-child(1)").all()] == [s["kind"] for s in r["steps"]]
    assert [number(c.inner_text()) for c in steps.locator("td:nth-child(4)").all()] == [s["ms"] for s in r["steps"]]
    messages = detail.get_by_role("region", name=re.compile("Messages")).locator("tbody tr")
    expect(messages).to_have_count(len(r["messages"]))
    assert [number(c.inner_text()) for c in messages.locator("td:nth-child(5)").all()] == [m["bytes_out"] for m in r["messages"]]
    p.page.get_by_role("searchbox").fill(f"GPU0 {ids[4]} done")
    expect(p.page.locator(".request")).to_have_count(1)
    expect(row(p, ids[4])).to_be_visible()
    p.page.get_by_role("searchbox").fill("")
    expect(p.page.locator(".request")).to_have_count(9)
    # One that runs is there, and then its end.
    a.fault(times=1, fault="hang")
    late = in_thread(lambda: t.chat("hang", stream=True))
    running = p.page.locator('.request[data-state="running"]')
    expect(running).to_have_count(1)
    rid = running.get_attribute("data-request")
    assert t.command(f"request {rid}")["state"] == "running"
    t.command(f"cancel {rid}")
    late.join()
    expect(row(p, rid)).to_have_attribute("data-state", "cancelled")


def test_conversations(pair, browse):
    t, *_ = pair(routing={"mode": "adaptive"})
    talk = [{"role": "system", "content": "You help. " * 200}]
    for i in range(4):
        talk.append({"role": "user", "content": f"question {i}"})
        status, _, data = t.chat(talk, stream=False)
        assert status == 200
        talk.append({"role": "assistant", "content": json.loads(data)["message"]["content"]})
    t.wait_idle()
    p = browse(t, "#sessions")
    s = t.command("sessions")["sessions"][0]
    e = p.page.locator(f'[data-session="{s["session"]}"]')
    expect(e).to_contain_text("4 turns")
    expect(e).to_contain_text(f"{shown(s['tokens'])} tokens")
    expect(e.locator(".share")).to_have_attribute("aria-label", f"{shown(s['cached_tokens'])} of {shown(s['tokens'])} tokens warm")
    e.click()
    turns = p.page.get_by_role("region", name="Turns").locator("tbody tr")
    expect(turns).to_have_count(4)
    of = [r for r in reversed(t.command("requests")["requests"]) if r["session"] == s["session"]]
    assert [c.inner_text() for c in turns.locator("td:nth-child(1)").all()] == [r["request"] for r in of]
    assert [number(c.inner_text()) for c in turns.locator("td:nth-child(4)").all()] == [r["cached_tokens"] for r in of]
    # Its beginning changes: the page tells where.
    t.chat([{"role": "system", "content": "You do not help. " * 200}, *talk[1:], {"role": "user", "content": "and?"}], stream=False)
    s = next(x for x in t.command("sessions")["sessions"] if x["breaks"])
    detail = p.page.get_by_role("region", name="One conversation")
    expect(detail).to_contain_text(s["last_change"])
    expect(detail).to_contain_text(f"message {s['last_message']}")
    expect(detail.get_by_role("region", name=re.compile("Changes"))).to_contain_text(s["last_change"])
    expect(turns.last).to_contain_text("broken")
    turns.last.get_by_role("link").click()
    expect(p.page.get_by_role("region", name="One request")).to_contain_text("broken")
    p.page.goto(f"{t.url}/ui/#nowhere/%")  # an address that somebody keeps, or mistypes
    expect(p.page.locator("#tabs a[aria-current]")).to_have_text("Devices")
    p.page.goto(f"{t.url}/ui/#requests/{of[0]['request']}")
    p.page.reload()
    expect(p.page.get_by_role("region", name="One request")).to_contain_text(of[0]["request"])


def test_first_tokens(pair, browse):
    t, *_ = pair()
    asked(t)
    p = browse(t, "#prompts")
    expect(p.page.get_by_role("status").filter(has_text="streamed")).to_contain_text("9 streamed answers of the last 9 requests")
    rows = p.page.get_by_role("region", name="Medians by size").locator("tbody tr")
    expect(rows.first).to_contain_text("to 1,000")
    cells = [[c.inner_text() for c in r.locator("td").all()] for r in rows.all()]
    of = t.command("requests")["requests"]
    for shortened, column in ((False, 1), (True, 3)):
        assert sum(number(c[column]) for c in cells) == sum((r["strategy"] in "BC") == shortened for r in of)
    small = sorted(r["first_ms"] for r in of if r["strategy"] == "A")
    assert cells[0][2] == f"{small[(len(small) - 1) // 2]} ms"
    expect(p.page.locator("figure canvas")).to_be_visible()


def test_events(pair, browse):
    t, *_ = pair()
    early = t.chat("a secret before the page was there")[1]["X-Tandem-Request-Id"]
    p = browse(t, "#events")
    expect(p.page.locator("#pulse")).to_have_attribute("data-stream", "open")
    expect(p.page.locator(".event", has_text="request_done").filter(has_text=early)).to_be_visible()  # as far back as is remembered
    rid = t.chat("a secret question")[1]["X-Tandem-Request-Id"]
    done = p.page.locator(".event", has_text="request_done").filter(has_text=rid)
    expect(done).to_have_count(1)
    done.click()
    said = json.loads(p.page.locator("pre.detail").inner_text())
    assert said["req"] == rid and said["event"] == "request_done" and said["device"] == "gpu0"
    p.page.get_by_role("searchbox").fill(f'"event":"job_start" {rid.upper()}')  # and not its worker's own word of it
    expect(p.page.locator(".event")).to_have_count(1)
    assert "secret" not in p.page.content()


def test_a_prompt_on_each_way(pair, browse):
    t, a, b = pair()
    p = browse(t, "#trial")
    p.page.get_by_label("Prompt").fill(prompt(3568))
    for title in ("B: shortened", "C: in chunks"):
        p.page.get_by_label(title).check()
    p.page.get_by_role("button", name="Try it").click()
    for title, way in (("as tandem decides", "B"), ("A: unchanged", "A"), ("B: shortened", "B"), ("C: in chunks", "C")):
        run = p.page.locator(f'[data-run="{title}"]')
        expect(run.locator(".pill")).to_have_text("done")
        assert run.locator("dd").first.inner_text() == way
        expect(run.locator("pre")).to_contain_text("w0 w1 w2")
        assert re.search(r"first token\s+\d", run.inner_text())
    ways = [r["strategy"] for r in t.command("requests")["requests"]]
    assert ways == ["C", "B", "A", "B"]
    p.page.get_by_role("button", name="Explain").click()
    expect(p.page.get_by_role("region", name="Messages").locator("tbody tr")).to_have_count(1)
    expect(p.page.get_by_role("region", name="Explained")).to_contain_text("condensed")
    # What is left out, line by line: the original is there in order, what is sent as well.
    body = {"model": "m:1b", "messages": [{"role": "user", "content": prompt(3568)}]}
    sent = json.loads(t.request("POST", "/v1/chat/completions", body, {"X-Tandem-Explain": "body"})[2])["body"]["messages"][0]["content"]
    p.page.locator("summary").click()
    lines = p.page.get_by_role("region", name="Lines").locator("div").evaluate_all("all => all.map(l => [l.dataset.way, l.lastChild.data ?? ''])")
    assert "\n".join(x for way, x in lines if way != "in") == prompt(3568)
    assert "\n".join(x for way, x in lines if way != "out") == sent
    assert sum(way == "out" for way, _ in lines) > 20
    # Bad input says so, and loses nothing.
    for text, words in (("", "nothing to try"), ("{", "not understood"), ('{"a": 1}', "messages")):
        p.page.get_by_label("Prompt").fill(text)
        p.page.get_by_role("button", name="Try it").click()
        expect(p.page.get_by_role("alert").filter(has_text=words)).to_be_visible()
    # Stopped: the request is cancelled there, too.
    a.fault(times=1, fault="hang")
    p.page.get_by_label("Prompt").fill("never")
    p.page.get_by_role("button", name="Try it").click()
    wait_for(lambda: t.device("gpu0")["inflight"] == 1, "the request at its device")
    p.page.get_by_role("button", name="Stop").click()
    expect(p.page.locator('[data-run="A: unchanged"] .pill')).to_have_text("stopped")
    wait_for(lambda: t.requests()["cancelled"] == 1, "its cancellation")


def finding(p, f):
    return p.page.locator(f'[data-finding="{f["id"]}"][data-device="{f["device"] or ""}"]')


def looks(p, title):
    return p.page.get_by_role("region", name=title, exact=True).locator("[data-look]").evaluate_all("all => all.map(e => e.dataset.look)")


def test_what_the_doctor_says(fake, tandem, nvml, browse):  # noqa: F811
    a, b = fake("main", options=("--host", "0.0.0.0")), fake("small", model=("s:0.5b",))
    devices = [attached(a, slots=2), {**attached(b, "gpu1", ("condense",)), "model": "s:0.5b"}]
    t = tandem(devices, env={**nvml, "NVML_FAKE_INIT": "9"})  # whatever this machine's own GPUs do
    assert t.operate("drain gpu1")["state"] == "done"
    p = browse(t, "#doctor")
    _, report = doctor(t)
    expect(p.page.locator(".finding")).to_have_count(len(report["findings"]))
    order = p.page.locator(".finding").evaluate_all("all => all.map(e => [e.dataset.finding, e.dataset.device || null])")
    assert order == [[f["id"], f["device"]] for f in report["findings"]]  # worst first
    assert [f["severity"] for f in report["findings"]][:2] == ["serious", "warning"]
    for f in report["findings"]:
        e = finding(p, f)
        expect(e.locator(".pill")).to_have_text(f["severity"])
        expect(e.locator("p").first).to_have_text(f["what"])
        expect(e.locator("p").nth(1)).to_have_text("To do: " + f["advice"])
        assert e.locator("dt").count() == len(f["measured"])
    expect(p.page.locator('[data-finding="open-backend"] dd').first).to_have_text(str(a.port))
    named = {f["id"] for f in report["findings"]}
    assert looks(p, "Looked at") == [i for i in report["looked_at"] if i not in named and i not in report["unknown"]]
    assert looks(p, "Not looked at") == report["unknown"]
    # Each look has words of its own, whatever this run has found.
    module = p.page.evaluate("async () => (await import('./doctor.js')).LOOKS")
    assert list(module) == [*dict.fromkeys(module)] and set(module) == set(report["looked_at"])
    told = p.page.get_by_role("status").filter(has_text="looked at")
    expect(told).to_have_text(re.compile(rf"^{len(report['findings'])} findings · looked at {len(report['looked_at'])} things at \d\d:\d\d:\d\d$"))
    # What is well again goes when it is looked at anew, and not before.
    assert t.operate("reset gpu1")["state"] == "done"
    t.wait_ready()
    expect(p.page.locator('[data-finding="away"]')).to_have_count(1)

    def well():
        p.page.get_by_role("button", name="Look again").click()
        expect(p.page.get_by_role("button", name="Look again")).to_be_enabled()
        return p.page.locator('[data-finding="away"]').count() == 0

    wait_for(well, "the device to be well")
    assert doctor(t)[1]["findings"]
    p.fits()


def test_nothing_that_the_doctor_says(pair, nvml, browse):  # noqa: F811
    t, *_ = pair(env={**nvml, "NVML_FAKE_INIT": "9"})
    _, report = doctor(t)
    assert report["findings"] == []
    p = browse(t)
    p.page.keyboard.press("7")
    expect(p.page.locator("#main")).to_contain_text("Nothing was found")
    expect(p.page.get_by_role("status").filter(has_text="looked at")).to_contain_text("no findings")
    assert looks(p, "Looked at") + looks(p, "Not looked at") != [] and p.page.locator(".finding").count() == 0


def test_units_of_what_the_doctor_measured(placed, browse):  # noqa: F811
    measured = {"window_tokens": 16384, "decode_tok_s": 41.26, "model_bytes": 6 << 30, "gpu_percent": 87, "load_mean_ms": 4210, "uptime_s": 7500, "restarts": 12,
                "prefill_tok_s": 1500, "free_bytes": None}
    words = ["16,384 tokens", "41.3 tokens/s", "6.0 GiB", "87 %", "4.21 s", "2 h 5 min", "12", "1,500 tokens/s", "–"]
    evil = "<img src=x onerror=window.owned=1>"
    found = [{"id": "reloads", "severity": "advice", "device": evil, "what": evil, "advice": evil, "lost_s": 130.2, "measured": measured}]
    report = {"at_ms": 1000, "running": True, "findings": found, "looked_at": ["reloads", "a-new-one"], "unknown": ["a-new-one"], "severity": "advice"}
    t = placed("#!/bin/sh\ncat <<'END'\n" + json.dumps(report) + "\nEND\n")
    p = browse(t, "#doctor")
    one = p.page.locator(".finding")
    expect(one.locator(".lost")).to_have_text("2 min 10 s lost")
    expect(one.locator("p").first).to_have_text(evil)
    assert [e.inner_text() for e in one.locator("dd").all()] == words
    assert [e.inner_text() for e in one.locator("dt").all()][:3] == ["window", "decode", "model"]
    assert looks(p, "Not looked at") == ["a-new-one"]
    expect(p.page.locator('[data-look="a-new-one"]')).to_have_text("a-new-one")  # a newer tandemctl
    assert p.page.evaluate("window.owned") is None


def test_a_doctor_that_cannot_look(placed, place, browse):  # noqa: F811
    t = placed(HELD)
    p = browse(t, "#doctor")
    button, wrong = p.page.get_by_role("button", name="Look again"), p.page.get_by_role("alert").filter(has_text="status 3")
    expect(p.page.get_by_role("status").filter(has_text="looked at")).to_be_visible()
    before = p.page.locator("[data-look]").count()
    place.put("#!/bin/sh\nexit 3\n")

    def fails():
        button.click()
        expect(button).to_be_enabled()
        return wrong.count() == 1

    wait_for(fails, "the reason")
    expect(p.page.get_by_role("status").filter(has_text="looked at")).to_be_visible()  # when what is shown was seen
    assert p.page.locator("[data-look]").count() == before > 0
    # Who goes elsewhere waits for nothing, nor does the gateway.
    place.put(HELD).hold()
    n = len(place.runs())
    p.view("devices")

    def waits():
        if not place.runs()[n:]:
            p.view("devices")
            p.view("doctor")
        return place.runs()[n:]

    pid = wait_for(waits, "a doctor that hangs")[-1]
    expect(button).to_be_disabled()
    p.view("devices")
    wait_for(lambda: not alive(pid), "its end")
    place.hold(False)
    p.view("doctor")
    expect(button).to_be_enabled()
    expect(p.page.get_by_role("alert").filter(has_text="tandem")).to_have_count(0)
    # Who left while it looked and then gets none reads when what is shown was seen.
    expect(p.page.get_by_role("status").filter(has_text="looked at")).to_be_visible()
    place.hold()
    n = len(place.runs())

    def looks_on():
        if button.is_enabled():
            button.click()
        return place.runs()[n:]

    wait_for(looks_on, "a doctor that hangs")
    p.view("devices")
    place.put("#!/bin/sh\nexit 3\n")
    p.view("doctor")
    expect(wrong).to_have_count(1)
    expect(p.page.get_by_role("status").filter(has_text="looked at")).to_be_visible()
    expect(button).to_be_enabled()
    p.wrong = [w for w in p.wrong if "503" not in w]  # the browser's own word for each


# --- what was left out of a request's messages ---


def lines_of(box):
    """[way, text] of each line that is shown in it, with what is folded or cut unfolded."""
    while box.locator("button.more").count():
        box.locator("button.more").first.click()
    return box.locator("[data-way]").evaluate_all("all => all.map(l => [l.dataset.way, [...l.childNodes].slice(1).map(n => n.data).join('')])")


def opened(p, i):
    """The row of message i of the request that is open; what it opens to."""
    rows = p.page.get_by_role("region", name=re.compile("^Messages")).locator("tbody tr:not(.text)")
    rows.nth(i).get_by_role("button").click()
    expect(rows.nth(i).get_by_role("button")).to_have_attribute("aria-expanded", "true")
    under = rows.nth(i).locator("xpath=following-sibling::tr[1][contains(@class, 'text')]")
    expect(under).to_have_count(1)
    return under


def standing(p, rid, state):
    p.page.locator(f'[data-request="{rid}"]').click()
    expect(p.page.get_by_role("region", name="One request")).to_contain_text(rid)  # and not one that was open before
    expect(p.page.locator(".content")).to_have_attribute("data-content", state)
    return p.page.locator(".content")


EVIL = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>'


def conversation(rounds=10):
    """An agent's: results of tools are long, and there is something in them that means harm."""
    out = [{"role": "system", "content": "You help."}, {"role": "user", "content": "Look through all of it."}]
    for i in range(rounds):
        call = {"function": {"name": "read", "arguments": {"path": f"src/part_{i}.c"}}}
        out += [{"role": "assistant", "content": f"Part {i}.", "tool_calls": [call]},
                {"role": "tool", "content": prompt(700) + "\n" + EVIL + f" {i}\n" + prompt(300)}]
    return out + [{"role": "user", "content": f"and {EVIL}?"}]


def test_what_was_left_out_of_each_message(pair, browse):
    t, a, _ = pair(log={"content": True}, main_device={"num_ctx": 4096})
    messages = conversation()
    status, headers, _ = t.chat(messages, stream=True)
    assert status == 200 and headers["X-Tandem-Strategy"] in "BC"
    hi = t.chat("hi", stream=True)[1]["X-Tandem-Request-Id"]
    t.wait_idle()
    p = browse(t, "#requests")
    rid = headers["X-Tandem-Request-Id"]
    expect(standing(p, hi, "whole")).to_contain_text("Nothing was left out")
    expect(p.page.get_by_role("region", name=re.compile("^Messages"))).to_have_count(0)
    expect(standing(p, rid, "kept")).to_contain_text("opens to")
    seen = set()
    for i, m in enumerate(messages):
        told = json.loads(t.request("GET", f"/ui/api/content/{rid}/{i}")[2])
        under = opened(p, i)
        expect(under).to_contain_text({"whole": "sent as it came", "nothing": "All of it is left out", "shortened": "lines are left out"}[told["sent"]])
        lines = lines_of(under.get_by_role("region", name="Lines"))
        assert "\n".join(x for way, x in lines if way != "in") == told["before"] and told["before"].startswith(m["content"])
        ways = {way for way, _ in lines}
        if told["sent"] == "shortened":
            assert "\n".join(x for way, x in lines if way != "out") == told["after"] and "out" in ways
        else:
            assert ways == ({"same"} if told["sent"] == "whole" else {"out"})
        seen.add(told["sent"])
        p.page.get_by_role("region", name=re.compile("^Messages")).locator("tbody tr:not(.text)").nth(i).get_by_role("button").click()
        expect(p.page.locator("tr.text")).to_have_count(0)
    assert seen == {"whole", "shortened", "nothing"}
    # What others say is text, wherever it stands.
    opened(p, len(messages) - 1)
    expect(p.page.locator("tr.text")).to_contain_text(EVIL)
    assert p.page.evaluate("window.owned") is None and p.page.locator("img:not([src='icon.svg'])").count() == 0
    # By keyboard as well, and on a narrow window nothing is wider than it.
    b = p.page.get_by_role("region", name=re.compile("^Messages")).locator("tbody tr:not(.text)").nth(0).get_by_role("button")
    b.focus()
    p.page.keyboard.press("Enter")
    expect(b).to_have_attribute("aria-expanded", "true")
    p.page.set_viewport_size(PHONE["viewport"])
    p.fits()
    p.page.set_viewport_size({"width": 1280, "height": 800})
    b.click()
    under = opened(p, 3)
    expect(under.get_by_role("region", name="Lines")).to_be_visible()
    under.scroll_into_view_if_needed()
    p.shot("content")


def test_texts_that_are_not_there(pair, browse):
    """Off: which switch shows them. Too large for what is kept: that."""
    t, *_ = pair()
    rid = t.chat(conversation(), stream=True)[1]["X-Tandem-Request-Id"]
    t.wait_idle()
    p = browse(t, "#requests")
    expect(standing(p, rid, "off")).to_contain_text("log.content")
    rows = p.page.get_by_role("region", name=re.compile("^Messages"))
    assert rows.locator("tbody tr").count() == len(conversation()) and rows.get_by_role("button").count() == 0
    t, *_ = pair(log={"content": True}, limits={"content_bytes": 3000})
    rid = t.chat(conversation(), stream=True)[1]["X-Tandem-Request-Id"]
    t.wait_idle()
    expect(standing(browse(t, "#requests"), rid, "too_large")).to_contain_text("limits.content_bytes")
    t, *_ = pair(log={"content": True}, limits={"request_messages": 0})
    rid = t.chat(conversation(), stream=True)[1]["X-Tandem-Request-Id"]
    t.wait_idle()
    p = browse(t, "#requests")
    expect(standing(p, rid, "kept")).to_contain_text("limits.request_messages")  # there is nothing that could open
    # An error is told, too.
    p.page.keyboard.press("Escape")
    p.page.route("**/ui/api/content/*", lambda r: r.fulfill(status=503, json={"error": "no room for <b>it</b>"}))
    p.page.locator(f'[data-request="{rid}"]').click()
    expect(p.page.locator(".content")).to_have_text("no room for <b>it</b>")
    p.wrong = [w for w in p.wrong if "503" not in w]  # the browser's own word for it


def test_texts_of_another_key(guarded, browse):  # noqa: F811
    t, _ = guarded(line("laptop", KEY), line("desk", OTHER), device={"num_ctx": 4096}, log={"content": True})
    body = {"model": "m:1b", "stream": False, "messages": conversation()}
    mine, theirs = (t.request("POST", "/api/chat", body, bearer(k))[1]["X-Tandem-Request-Id"] for k in (KEY, OTHER))
    t.wait_idle()
    p = browse(t, "#requests")
    p.page.locator("#key").fill(KEY)
    p.page.keyboard.press("Enter")
    expect(standing(p, theirs, "other_key")).to_contain_text("your key")
    assert p.page.get_by_role("region", name=re.compile("^Messages")).get_by_role("button").count() == 0
    standing(p, mine, "kept")
    expect(opened(p, 0)).to_contain_text("You help.")
    p.wrong = [w for w in p.wrong if "401" not in w]  # the browser's own word for each


@pytest.mark.measured
def test_a_message_of_two_megabytes_without_a_stutter(pair, browse):
    """Read, compared and drawn; so is one of a single line."""
    t, *_ = pair(log={"content": True})
    long = "".join(f"{i}: value_{i} = compute({i * 37});\n" for i in range(60000))[:2_000_000]
    p = None
    for text in (long, "x" * 2_000_000):
        messages = conversation()
        messages[3]["content"] = text
        status, headers, _ = t.chat(messages, stream=True)
        assert status == 200
        t.wait_idle()
        p = p or browse(t, "#requests")
        expect(p.page.locator(f'[data-request="{headers["X-Tandem-Request-Id"]}"]')).to_be_visible()
        standing(p, headers["X-Tandem-Request-Id"], "kept")
        before = worked(p)
        under = opened(p, 3)
        expect(under).to_contain_text("left out")
        p.page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        ms = worked(p) - before
        print(f"a message of {len(text)} bytes: {ms:.0f} ms of work")
        assert ms < 1000 and under.locator("[data-way]").count() <= 2500


# --- whoever looks, on whatever ---


def test_by_keyboard_alone(pair, browse):
    t, *_ = pair()
    ids = asked(t)
    p = browse(t)
    keyboard, focused = p.page.keyboard, lambda: p.page.evaluate("document.activeElement.textContent || document.activeElement.id")
    expect(p.page.locator("[data-device=gpu0]")).to_be_visible()
    for i, name in enumerate(VIEWS):
        keyboard.press(str(i + 1))
        expect(p.page.locator(f'#tabs a[href="#{name}"]')).to_have_attribute("aria-current", "page")
    keyboard.press("2")
    expect(row(p, ids[0])).to_be_visible()
    keyboard.press("/")
    keyboard.type("done")
    assert p.page.evaluate("document.activeElement.type") == "search"
    while p.page.evaluate("document.activeElement.getAttribute('role')") != "listbox":
        keyboard.press("Tab")
    for key, at in (("ArrowDown", 0), ("ArrowDown", 1), ("End", 8), ("ArrowUp", 7), ("Home", 0), ("ArrowUp", 0)):
        keyboard.press(key)
        expect(row(p, ids[at])).to_have_attribute("aria-selected", "true")
        expect(p.page.locator(".list")).to_have_attribute("aria-activedescendant", row(p, ids[at]).get_attribute("id"))
    expect(p.page.get_by_role("region", name="One request")).to_contain_text(ids[0])
    keyboard.press("Escape")
    expect(p.page.get_by_role("region", name="One request")).to_be_hidden()
    keyboard.press("?")
    expect(p.page.locator("#help")).to_be_visible()
    keyboard.press("Escape")
    expect(p.page.locator("#help")).to_be_hidden()
    keyboard.press("6")
    while p.page.evaluate("document.activeElement.tagName") != "TEXTAREA":
        keyboard.press("Tab")
    keyboard.type("hello 1 2 t ?")  # keys of the page are letters here
    keyboard.press("Control+Enter")
    expect(p.page.locator('[data-run="A: unchanged"] .pill')).to_have_text("done")
    p.page.reload()
    keyboard.press("Tab")
    assert focused().startswith("Skip")
    keyboard.press("Tab")
    assert focused() == "Devices"


def test_on_a_telephone(pair, browse):
    t, *_ = pair()
    asked(t)
    p = browse(t, **PHONE)
    for name in VIEWS:
        p.view(name)
        if name in ("requests", "sessions"):
            p.page.locator(".row").first.click()
            expect(p.page.locator(".detail").first).to_be_visible()
        p.fits()
    p.page.goto(f"{t.url}/ui/#devices")
    p.page.goto(f"{t.url}/ui/#doctor")  # by its address alone
    expect(p.page.locator('#tabs a[href="#doctor"]')).to_be_in_viewport(ratio=1)
    p.view("requests")
    expect(p.page.locator(".request .step").first).to_be_visible()
    p.shot("phone")


def test_dark_and_light(pair, browse):
    t, *_ = pair()
    dark = "document.documentElement && getComputedStyle(document.body).backgroundColor"
    p = browse(t, color_scheme="dark")
    expect(p.page.locator("[data-device=gpu0]")).to_be_visible()
    black = p.page.evaluate(dark)
    p.page.keyboard.press("t")
    white = p.page.evaluate(dark)
    assert sum(map(int, re.findall(r"\d+", black))) < 150 < 600 < sum(map(int, re.findall(r"\d+", white)))
    p.page.reload()
    assert p.page.evaluate(dark) == white  # as it was said last
    p.page.emulate_media(color_scheme="light")
    p.page.click("#theme")
    assert p.page.evaluate(dark) == black


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_can_be_read(pair, browse, scheme):
    """Contrast of text and ground, 4.5 to 1 (WCAG 2.2, 1.4.3), by the colours that are named."""
    t, *_ = pair()
    p = browse(t, color_scheme=scheme)
    value = lambda n: p.page.evaluate(f"getComputedStyle(document.documentElement).getPropertyValue('--{n}').trim()")  # noqa: E731

    def light(colour):
        parts = [int(colour[i:i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for ink in ("ink", "soft", "main", "good", "warn", "bad", "condense"):
        for ground in ("card", "ground"):
            a, b = sorted((light(value(ink)), light(value(ground))), reverse=True)
            assert (a + 0.05) / (b + 0.05) >= 4.5, (ink, ground)


def test_with_a_key(guarded, browse):  # noqa: F811
    t, _ = guarded()
    p = browse(t)
    expect(p.page.locator("#login")).to_be_visible()
    p.page.locator("#key").fill(OTHER)
    p.page.keyboard.press("Enter")
    expect(p.page.locator("#login-error")).to_contain_text("not known")
    p.page.locator("#key").fill(KEY)
    p.page.keyboard.press("Enter")
    expect(p.page.locator("[data-device=gpu0]")).to_be_visible()
    expect(p.page.locator("#pulse")).to_have_attribute("data-stream", "open")
    p.view("trial")
    p.page.get_by_label("Prompt").fill("hello")
    p.page.keyboard.press("Control+Enter")
    expect(p.page.locator('[data-run="A: unchanged"] .pill')).to_have_text("done")
    p.page.reload()  # it stays in this tab ...
    expect(p.page.locator("[data-device=gpu0]").or_(p.page.get_by_label("Prompt"))).to_be_visible()
    expect(p.page.locator("#pulse")).to_have_attribute("data-state", "good")
    assert p.page.evaluate("Object.keys(localStorage).concat(document.cookie).join()") == ""
    assert KEY not in p.page.url and KEY not in t.log()
    other = p.context.new_page()  # ... and in no other
    other.goto(f"{t.url}/ui/")
    expect(other.locator("#login")).to_be_visible()
    other.close()
    p.wrong = [w for w in p.wrong if "401" not in w]  # the browser's own word for each


def test_what_others_say_is_never_markup(pair, browse):
    t, *_ = pair()
    evil = '<img src=x onerror="window.owned=1"><script>window.owned=1</script>'
    p = browse(t, "#events")
    expect(p.page.locator("#pulse")).to_have_attribute("data-stream", "open")
    t.request("POST", "/api/chat", {"model": evil, "messages": [{"role": "user", "content": evil}], "stream": False}, {"User-Agent": evil})
    t.request("GET", "/nowhere/" + "%3Cscript%3E")
    expect(p.page.locator(".event", has_text="request_begin").first).to_be_visible()
    p.view("requests")
    expect(p.page.locator(".request").first).to_be_visible()
    p.view("trial")
    p.page.get_by_label("Prompt").fill(evil + " [[fake text=" + "%3Cimg%20src%3Dx%20onerror%3D%22owned%3D1%22%3E" + "]]")
    p.page.keyboard.press("Control+Enter")
    expect(p.page.locator('[data-run="A: unchanged"] .pill')).to_have_text("done")
    assert p.page.evaluate("window.owned") is None and p.page.locator("img:not([src='icon.svg'])").count() == 0


def test_the_policy_holds(pair, browse):
    """Were there a way to put something into the page, it would not run, and tell nobody; and that is noticed here."""
    t, a, _ = pair()
    p = browse(t)
    expect(p.page.locator("[data-device=gpu0]")).to_be_visible()
    done = p.page.evaluate("""async url => {
        const tried = async f => { try { await f(); return "done"; } catch { return "refused"; } };
        const put = (name, more) => document.body.append(Object.assign(document.createElement(name), more));
        return [await tried(() => { document.body.innerHTML = "<b>x</b>"; }), await tried(() => put("script", { text: "window.owned = 1" })),
            await tried(() => fetch(url)), await tried(() => put("iframe", { src: url }))];
    }""", a.url + "/")
    assert done[:3] == ["refused"] * 3 and p.page.evaluate("window.owned") is None
    wait_for(lambda: any(b.startswith("frame-src") for b in p.page.evaluate("broken")), "the frame's refusal")
    assert any(b.startswith("connect-src") for b in p.page.evaluate("broken"))
    assert p.wrong and p.left == []
    p.page.evaluate("broken = []")
    p.wrong.clear()


def test_through_an_upgrade(fake, upgradable, browse):  # noqa: F811
    a = fake("main")
    t = upgradable([attached(a)])
    p = browse(t, "#events")
    expect(p.page.locator("#pulse")).to_have_attribute("data-stream", "open")
    old, new = t.upgrade()
    wait_for(lambda: t.lines("stopped", pid=old), "the end of the old one")
    expect(p.page.locator("#pulse")).to_have_attribute("data-state", "good")

    def heard():
        rid = t.chat("hi")[1]["X-Tandem-Request-Id"]
        return p.page.locator(".event", has_text=rid).count()

    end = time.monotonic() + 60
    while not heard():
        assert time.monotonic() < end
        p.page.wait_for_timeout(100)
    p.wrong.clear()  # a browser tells of each request that found nobody, for a moment


# --- a thousand ---


def worked(p):
    """What the page's thread has worked so far, drawing without a GPU included, in ms of a processor: the time of a clock would tell of
    this machine's other work as well."""
    if not hasattr(p, "cdp"):
        p.cdp = p.context.new_cdp_session(p.page)
        p.cdp.send("Performance.enable", {"timeDomain": "threadTicks"})
    return 1000 * next(m["value"] for m in p.cdp.send("Performance.getMetrics")["metrics"] if m["name"] == "TaskDuration")


def scrolled(p, frames=150):
    """From top to bottom in that many steps of two frames each: what the page's thread worked for each, in ms."""
    each, before = [], worked(p)
    for n in range(1, frames + 1):
        p.page.evaluate("""to => new Promise(done => {
            const list = document.querySelector(".list");
            list.scrollTop = list.scrollHeight * to;
            requestAnimationFrame(() => requestAnimationFrame(done));
        })""", n / frames)
        now = worked(p)
        each.append(now - before)
        before = now
    return sorted(each)


@pytest.mark.measured
def test_a_thousand_requests_without_a_stutter(pair, browse):
    t, *_ = pair(main_device={"slots": 16})

    def some():
        for i in range(125):
            assert t.chat(f"hi {i}", stream=True)[0] == 200

    for th in [in_thread(some) for _ in range(8)]:
        th.join(120)
    t.wait_idle()
    p = browse(t, "#requests")
    expect(p.page.get_by_role("status").filter(has_text="of 1,000 requests")).to_contain_text("1,000 of 1,000 requests")
    box = p.page.locator(".list")
    assert p.page.locator(".request").count() < 80  # of what is seen, and no more
    each = scrolled(p)
    print(f"scrolling through 1,000: {each[len(each) // 2]:.1f} ms of work a step of two frames in the median, {each[-1]:.1f} ms at most")
    assert each[len(each) // 2] < 32 and each[-1] < 120, each
    box.focus()
    p.page.keyboard.press("End")
    last = p.page.locator('.request[aria-posinset="1000"]')
    expect(last).to_have_attribute("aria-selected", "true")
    expect(last.locator(".step").first).to_be_visible()
    begun = {r["request"]: r["begun_at_ms"] for r in t.command("requests 1000")["requests"]}
    assert begun[last.get_attribute("data-request")] == min(begun.values())


# --- pictures for the documents ---


def test_pictures(fake, tandem, nvml, browse):  # noqa: F811
    """For docs/images (PICTURES=1): as the tests see it, with backends that take their time."""
    a = fake("main", type="llama-server", options=["-c", "65536", "-np", "2", "--prefill", "3000", "--decode", "60"])
    b = fake("small", type="llama-server", model=("s:0.5b",), options=["-c", "16384", "-np", "2", "--prefill", "9000", "--decode", "150"])
    t = tandem([attached(a, slots=2, pin="0"), {**attached(b, "gpu1", ("condense",), slots=2, pin="1"), "model": "s:0.5b"}], env=nvml)
    p = browse(t)
    expect(p.page.locator("[data-device=gpu1]")).to_be_visible()
    sizes = (900, 3568, 5000, 10981, 1500, 7000, 1200, 4000)
    threads = [in_thread(lambda n=n: t.chat(prompt(n) + "[[fake tokens=150]]", stream=True)) for n in sizes]
    expect(p.page.locator("[data-device=gpu0]")).to_contain_text(re.compile(r"(?<!\d)([5-9]|\d\d+) done"))  # whichever it is told of first
    p.shot("devices")
    for th in threads:
        assert th.join(60)[0] == 200
    p.view("requests")
    expect(p.page.locator(".request .step[data-kind=decode]").nth(5)).to_be_visible()
    p.page.locator(".list").focus()
    p.page.keyboard.press("ArrowDown")
    p.page.keyboard.press("ArrowDown")
    expect(p.page.get_by_role("region", name="One request")).to_be_visible()
    p.shot("requests")
    p.page.keyboard.press("t")
    p.view("trial")
    p.page.get_by_label("Prompt").fill(prompt(5000) + "[[fake tokens=60]]")
    p.page.get_by_label("C: in chunks").check()
    p.page.get_by_role("button", name="Try it").click()
    expect(p.page.locator('[data-run="C: in chunks"] .pill')).to_have_text("done")
    p.shot("trial")


def test_picture_of_the_doctor(fake, tandem, nvml, browse):  # noqa: F811
    """For docs/images, as above: a card that stands idle, and a backend that the network reaches."""
    a = fake("main", type="llama-server", options=["-c", "65536", "-np", "2", "--host", "0.0.0.0"])
    b = fake("small", type="llama-server", model=("s:0.5b",), options=["-c", "16384", "-np", "2"])
    t = tandem([attached(a, slots=4, pin="0"), {**attached(b, "gpu1", ("condense",), slots=2), "model": "s:0.5b"}], env=nvml)
    for _ in range(3):
        assert t.chat("hello [[fake tokens=150]]", stream=True)[0] == 200
    p = browse(t, "#doctor")
    expect(p.page.locator(".finding").first).to_be_visible()
    p.shot("doctor")
