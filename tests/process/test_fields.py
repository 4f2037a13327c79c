"""What the official packages can say, name by name: taken, without effect, or refused in words (docs/fields.md). A name that is new in a package
fails here until somebody has decided, and a document says so."""

import json
import os
import re
import typing

import ollama._types as ollama_types
import pytest
from anthropic.types import content_block_param, message_count_tokens_params, message_create_params, raw_message_stream_event, tool_union_param
from anthropic.types.beta import (beta_content_block_param, beta_context_management_config_param, beta_tool_result_block_param, beta_tool_union_param,
                                  message_count_tokens_params as beta_count, message_create_params as beta_create)
from openai.types import completion_create_params, embedding_create_params
from openai.types.beta import beta_response_input_item_param
from openai.types.chat import completion_create_params as chat_create
from openai.types.responses import (input_token_count_params, response_compact_params, response_create_params, response_input_item_param,
                                    response_input_message_content_list_param, response_stream_event, tool_param)

from dialect import MODEL
from harness import ROOT

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"name": "read", "parameters": {"type": "object", "properties": {}}}
TOOL = {"type": "function", "function": FUNCTION}
FLAT = {"type": "function", **FUNCTION}
SAID = [{"role": "user", "content": "hi"}]
CHAT = {"model": MODEL, "messages": SAID, "stream": False}


class Taken:
    """It shows in what the backend is asked: with `base`, and then with the field as well."""

    def __init__(self, value, **base):
        self.value, self.base = value, base


class Nothing(Taken):
    """The backend is asked the same with it as without."""


class Refused(Taken):
    """400, and the words name it."""


class Elsewhere:
    """Taken, and seen in the answer or in what is not asked: the tests of this file hold it."""

    def __init__(self, where):
        self.where = where


ALWAYS = Elsewhere("")  # every request has it

OPENAI = {
    "messages": ALWAYS, "model": ALWAYS, "stream": ALWAYS,
    "frequency_penalty": Taken(0.5), "presence_penalty": Taken(0.5), "seed": Taken(7), "temperature": Taken(0.1), "top_p": Taken(0.3), "stop": Taken("x"),
    "max_tokens": Taken(9), "max_completion_tokens": Taken(9), "reasoning_effort": Taken("low"), "response_format": Taken({"type": "json_object"}),
    "tools": Taken([TOOL]), "tool_choice": Taken("none", tools=[TOOL]), "functions": Taken([FUNCTION]), "function_call": Taken("none", functions=[FUNCTION]),
    "logprobs": Taken(True), "top_logprobs": Taken(3, logprobs=True),
    "parallel_tool_calls": Elsewhere("test_wishes.py"), "stream_options": Elsewhere("test_openai.py"),
    "logit_bias": Refused({"5": 1}), "n": Refused(2), "web_search_options": Refused({}), "modalities": Refused(["text", "audio"]),
    "moderation": Refused({"model": "omni-moderation-latest"}),
    "audio": Nothing({"format": "mp3", "voice": "alloy"}), "metadata": Nothing({"a": "b"}), "prediction": Nothing({"type": "content", "content": "x"}),
    "prompt_cache_key": Nothing("k"), "prompt_cache_options": Nothing({"ttl": "30m"}), "prompt_cache_retention": Nothing("24h"),
    "safety_identifier": Nothing("s"), "service_tier": Nothing("flex"), "store": Nothing(True), "user": Nothing("u"), "verbosity": Nothing("low"),
}
TEXT = {
    "model": ALWAYS, "prompt": ALWAYS, "stream": ALWAYS,
    "frequency_penalty": Taken(0.5), "presence_penalty": Taken(0.5), "seed": Taken(7), "temperature": Taken(0.1), "top_p": Taken(0.3), "stop": Taken("x"),
    "max_tokens": Taken(9), "suffix": Taken("end"), "logprobs": Taken(2),
    "echo": Elsewhere("test_completions.py"), "stream_options": Elsewhere("test_completions.py"),
    "logit_bias": Refused({"5": 1}), "n": Refused(2), "best_of": Refused(2), "user": Nothing("u"),
}
RESPONSES = {
    "input": ALWAYS, "model": ALWAYS, "stream": ALWAYS,
    "instructions": Taken("Be brief."), "max_output_tokens": Taken(9), "temperature": Taken(0.1), "top_p": Taken(0.3), "reasoning": Taken({"effort": "low"}),
    "text": Taken({"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}), "tools": Taken([FLAT]), "tool_choice": Taken("none", tools=[FLAT]),
    "include": Taken(["message.output_text.logprobs"]), "top_logprobs": Taken(3, include=["message.output_text.logprobs"]),
    "parallel_tool_calls": Elsewhere("test_wishes.py"), "context_management": Elsewhere("test_compaction_responses.py"),
    "background": Refused(True), "conversation": Refused("conv_1"), "previous_response_id": Refused("resp_1"), "prompt": Refused({"id": "pmpt_1"}),
    "moderation": Refused({"model": "omni-moderation-latest"}),
    "prompt_cache_options": [Nothing({"mode": "explicit", "ttl": "30m"}), Refused({"prewarm": True})],
    "access_programs": Nothing({"cyber": "standard"}), "background_options": Nothing({"completion_window": "soonest"}),
    "image": Nothing({"context_compression": "auto"}), "max_tool_calls": Nothing(3), "metadata": Nothing({"a": "b"}), "prompt_cache_key": Nothing("k"),
    "prompt_cache_retention": Nothing("24h"), "safety_identifier": Nothing("s"), "service_tier": Nothing("flex"), "store": Nothing(True),
    "stream_options": Nothing({"include_obfuscation": False}), "truncation": Nothing("auto"), "user": Nothing("u"),
    "personality": Nothing("friendly"),  # of counts
}
CLAUDE = {"name": "read", "input_schema": {"type": "object"}}
MESSAGES = {
    "max_tokens": ALWAYS, "messages": ALWAYS, "model": ALWAYS, "stream": ALWAYS,
    "system": Taken("Be brief."), "stop_sequences": Taken(["x"]), "tools": Taken([CLAUDE]), "tool_choice": Taken({"type": "none"}, tools=[CLAUDE]),
    "thinking": Taken({"type": "enabled", "budget_tokens": 1024}), "output_config": Taken({"format": {"type": "json_schema", "schema": SCHEMA}}),
    "compaction": Elsewhere("test_compaction.py"), "context_management": Elsewhere("test_compaction.py"),
    "temperature": Taken(0.1), "top_p": Taken(0.3), "top_k": Taken(5), "output_format": Taken({"type": "json_schema", "schema": SCHEMA}),
    "container": Refused("c_1"), "mcp_servers": Refused([{"type": "url", "name": "x", "url": "http://x"}]),
    "thread": [Refused({"type": "create"}), Refused({"type": "continue", "previous_message_id": "msg_1"})],
    "billing_policy": Nothing({"type": "billing_policy", "bill_to": "self"}), "cache_control": Nothing({"type": "ephemeral"}), "diagnostics": Nothing({}),
    "fallback_credit_token": Nothing("t"), "fallbacks": Nothing("default"), "inference_geo": Nothing("eu"), "metadata": Nothing({"user_id": "u"}),
    "service_tier": Nothing("auto"), "speed": Nothing("fast"),
}
OLDER = {"/v1/messages": {"temperature", "top_p", "top_k", "output_format"}, "options": {"min_p"}}  # or not said by the package
HEADERS = {"betas", "user_profile_id", "workspace_id"}
OLLAMA_BOTH = {
    "model": ALWAYS, "stream": ALWAYS, "options": Taken({"temperature": 0.1}), "format": Taken("json"), "think": Taken(True), "logprobs": Taken(True),
    "top_logprobs": Taken(3, logprobs=True), "keep_alive": Nothing("5m"),
}
OLLAMA_CHAT = {**OLLAMA_BOTH, "messages": ALWAYS, "tools": Taken([TOOL])}
OLLAMA_GENERATE = {
    **OLLAMA_BOTH, "prompt": ALWAYS, "system": Taken("Be brief."), "suffix": Taken("end"), "raw": Taken(True), "images": Taken(["QQ=="]),
    "template": Refused("{{ .Prompt }}"), "context": Refused([1, 2]), "width": Refused(64), "height": Refused(64), "steps": Refused(4),
}
OPTIONS = {
    **{n: Taken(0.25) for n in ("temperature", "top_p", "min_p", "typical_p", "repeat_penalty", "presence_penalty", "frequency_penalty")},
    **{n: Taken(2) for n in ("mirostat", "mirostat_tau", "mirostat_eta", "seed", "top_k", "repeat_last_n", "num_keep", "num_predict")}, "stop": Taken(["x"]),
    **{n: Nothing(1) for n in ("numa", "num_ctx", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mmap",
                               "use_mlock", "embedding_only", "num_thread", "tfs_z", "penalize_newline")},
}


EMBEDDINGS = {"input": ALWAYS, "model": ALWAYS, **{n: Elsewhere("test_embeddings.py") for n in ("dimensions", "encoding_format", "user")}}
OLLAMA_EMBED = {"input": ALWAYS, "prompt": ALWAYS, "model": ALWAYS,
                **{n: Elsewhere("test_embeddings.py") for n in ("dimensions", "truncate", "options", "keep_alive")}}

# What is in a request by its type. A type that is left out is one that a client may send and that says nothing to a model here.
TAKEN, LEFT_OUT, REFUSED = "taken", "left out", "refused"
ITEMS = {
    **dict.fromkeys(("message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning", "local_shell_call",
                     "local_shell_call_output", "tool_search_call", "tool_search_output", "additional_tools", "configuration_update", "agent_message",
                     "compaction", "compaction_trigger"), TAKEN),
    **dict.fromkeys(("file_search_call", "web_search_call", "image_generation_call", "code_interpreter_call", "mcp_list_tools"), LEFT_OUT),
    **dict.fromkeys(("computer_call", "computer_call_output", "shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output",
                     "mcp_approval_request", "mcp_approval_response", "mcp_call", "item_reference", "program", "program_output", "multi_agent_call",
                     "multi_agent_call_output"), REFUSED),
}
TOOLS = {
    **dict.fromkeys(("function", "custom", "namespace"), TAKEN),
    **dict.fromkeys(("tool_search", "web_search", "web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "image_generation"), LEFT_OUT),
    **dict.fromkeys(("file_search", "computer", "computer_use_preview", "mcp", "code_interpreter", "programmatic_tool_calling", "local_shell", "shell",
                     "apply_patch"), REFUSED),
}
PARTS = {"input_text": TAKEN, "input_image": TAKEN, "input_file": REFUSED}
BLOCKS = {
    **dict.fromkeys(("text", "image", "document", "thinking", "tool_use", "tool_result", "tool_reference", "compaction"), TAKEN),
    **dict.fromkeys(("redacted_thinking", "fallback"), LEFT_OUT),
    **dict.fromkeys(("search_result", "server_tool_use", "web_search_tool_result", "web_fetch_tool_result", "advisor_tool_result", "code_execution_tool_result",
                     "bash_code_execution_tool_result", "text_editor_code_execution_tool_result", "tool_search_tool_result", "mcp_tool_use", "mcp_tool_result",
                     "container_upload", "tool_addition", "tool_removal", "mcp_tool_listing", "browser_state"), REFUSED),
}
EDITS = {"compact_20260112": TAKEN, "clear_tool_uses_20250919": LEFT_OUT, "clear_thinking_20251015": LEFT_OUT}

CHATS, CREATES = chat_create.CompletionCreateParamsNonStreaming, response_create_params.ResponseCreateParamsNonStreaming
APIS = {
    "/v1/chat/completions": ("ollama", CHAT, OPENAI, [CHATS, chat_create.CompletionCreateParamsStreaming], "fields.md"),
    "/v1/completions": ("ollama", {"model": MODEL, "prompt": "hi", "stream": False}, TEXT,
                        [completion_create_params.CompletionCreateParamsNonStreaming, completion_create_params.CompletionCreateParamsStreaming], "completions.md"),
    "/v1/responses": ("ollama", {"model": MODEL, "input": "hi"}, RESPONSES,
                      [CREATES, response_create_params.ResponseCreateParamsStreaming, response_compact_params.ResponseCompactParams,
                       input_token_count_params.InputTokenCountParams], "responses.md"),
    "/v1/messages": ("ollama", {**CHAT, "max_tokens": 20}, MESSAGES,
                     [message_create_params.MessageCreateParamsNonStreaming, message_create_params.MessageCreateParamsStreaming,
                      message_count_tokens_params.MessageCountTokensParams, beta_create.MessageCreateParamsNonStreaming,
                      beta_create.MessageCreateParamsStreaming, beta_count.MessageCountTokensParams], "anthropic.md"),
    "/api/chat": ("llama-server", CHAT, OLLAMA_CHAT, [ollama_types.ChatRequest], "fields.md"),
    "/api/generate": ("llama-server", {"model": MODEL, "prompt": "hi", "stream": False}, OLLAMA_GENERATE, [ollama_types.GenerateRequest], "fields.md"),
    "options": ("llama-server", CHAT, OPTIONS, [ollama_types.Options], "fields.md"),
    "/v1/embeddings": (None, None, EMBEDDINGS, [embedding_create_params.EmbeddingCreateParams], "fields.md"),
    "/api/embed": (None, None, OLLAMA_EMBED, [ollama_types.EmbedRequest, ollama_types.EmbeddingsRequest], "fields.md"),
}
UNIONS = [
    (ITEMS, [response_input_item_param.ResponseInputItemParam, beta_response_input_item_param.BetaResponseInputItemParam], "responses.md"),
    (TOOLS, [tool_param.ToolParam], "responses.md"),
    (PARTS, [response_input_message_content_list_param.ResponseInputContentParam], "responses.md"),
    (BLOCKS, [content_block_param.ContentBlockParam, beta_content_block_param.BetaContentBlockParam, beta_tool_result_block_param.Content], "anthropic.md"),
    (EDITS, [beta_context_management_config_param.Edit], "anthropic.md"),
]


def names_of(shape):
    return set(getattr(shape, "model_fields", None) or shape.__annotations__)


def types_of(union):
    """The words of the member "type" of what a union is of."""
    (parts,) = [typing.get_args(union)] if typing.get_origin(union) is not typing.Annotated else [typing.get_args(typing.get_args(union)[0])]
    found = set()
    for one in parts:
        if typing.get_args(one):
            found |= types_of(one)
        elif "type" in getattr(one, "__annotations__", {}):
            said = one.__annotations__["type"]
            found |= set(re.findall(r"""["']([a-z_0-9.]+)["']""", getattr(said, "__forward_arg__", None) or str(said)))
    return found


def words_of(page):
    """What stands between backticks, word by word."""
    with open(os.path.join(ROOT, "docs", page)) as f:
        return set(re.findall(r"[a-z_0-9]+", " ".join(re.findall(r"`([^`]*)`", f.read()))))


@pytest.mark.parametrize("api", APIS)
def test_each_name_of_the_packages_is_decided(api):
    _, _, table, shapes, page = APIS[api]
    names = set().union(*map(names_of, shapes)) - HEADERS
    assert names - set(table) == set(), "new in a package: take it, refuse it or leave it out, and say so"
    assert set(table) - names == OLDER.get(api, set()), "no package says it any more"
    told = words_of(page)
    assert [n for n, kind in table.items() if kind is not ALWAYS and n not in told] == [], page


@pytest.mark.parametrize("table,unions,page", UNIONS, ids=["items", "tools", "parts", "blocks", "edits"])
def test_each_type_of_the_packages_is_decided(table, unions, page):
    assert set().union(*map(types_of, unions)) == set(table)
    told = words_of(page)
    assert [n for n in table if n not in told and n != "message"] == [], page


@pytest.fixture
def asking(one_device):
    """asking(kind) -> ask(path, body) -> (status, answer, what the backend was asked to answer; None: nothing)"""

    def start(kind):
        t, a = one_device(kind, routing={"warm": False})

        def ask(path, body):
            before = len(a.bodies())
            status, _, data = t.request("POST", path, body, {"anthropic-version": "2023-06-01"} if path == "/v1/messages" else {})
            asked = [json.loads(b) for b in a.bodies()[before:] if b'"messages"' in b or b'"prompt"' in b or b'"input_prefix"' in b]
            return status, data.decode(), asked[-1] if asked else None

        return ask

    return start


@pytest.mark.parametrize("api", [api for api, row in APIS.items() if row[0]])
def test_each_name_is_what_the_table_says(asking, api):
    kind, base, table, _, _ = APIS[api]
    ask = asking(kind)
    path = "/api/chat" if api == "options" else api
    for name, cases in table.items():
        for case in cases if isinstance(cases, list) else [cases]:
            if isinstance(case, Elsewhere):
                continue
            without = {**base, **case.base}
            more = {"options": {name: case.value}} if api == "options" else {name: case.value}
            status, answer, asked = ask(path, {**without, **more})
            if isinstance(case, Refused):
                assert status == 400 and asked is None and name in answer, (name, answer)
                continue
            same = asked == ask(path, without)[2]
            assert asked is not None and same == isinstance(case, Nothing), (name, answer, asked)
            assert status == 200 or not same, (name, answer)


def test_each_type_is_what_the_table_says(asking):
    ask = asking("ollama")
    user = {"role": "user", "content": "hi"}
    for table, path, body in (
            (ITEMS, "/v1/responses", lambda t: {"model": MODEL, "input": [user, {"type": t}] if t else [user]}),
            (TOOLS, "/v1/responses", lambda t: {"model": MODEL, "input": [user], "tools": [FLAT, {"type": t}] if t else [FLAT]}),
            (PARTS, "/v1/responses", lambda t: {"model": MODEL, "input": [user, {"role": "user", "content": [{"type": t}]}]}),
            (BLOCKS, "/v1/messages", lambda t: {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": [
                {"type": "text", "text": "hi"}, *([{"type": t}] if t else [])]}]}),
            (EDITS, "/v1/messages", lambda t: {**CHAT, "max_tokens": 9, "context_management": {"edits": [{"type": t}] if t else []}})):
        for name, kind in table.items():
            status, answer, asked = ask(path, body(name))
            if kind == REFUSED:
                assert status == 400 and asked is None, (name, answer)
                assert table is BLOCKS or name in answer or name == "item_reference", (name, answer)
            elif kind == LEFT_OUT:
                assert status == 200 and asked == ask(path, body(None))[2], (name, answer)


def test_tools_that_only_its_own_server_has_are_refused(asking):
    ask = asking("ollama")
    for name in sorted(types_of(beta_tool_union_param.BetaToolUnionParam) | types_of(tool_union_param.ToolUnionParam)):
        status, answer, asked = ask("/v1/messages", {**CHAT, "max_tokens": 9, "tools": [{"type": name, "name": "x"}]})
        assert status == 400 and asked is None and (name in answer or name == "custom"), (name, answer)


@pytest.mark.parametrize("pattern,union,own", [
    ("write_responses", response_stream_event.ResponseStreamEvent, {"response.compaction"}),  # the name of an object
    ("write_anthropic", raw_message_stream_event.RawMessageStreamEvent, set()),
])
def test_events_are_those_that_the_packages_know(pattern, union, own):
    """What a writer here can send, by its text."""
    folder, written = os.path.join(ROOT, "common", "dialect"), set()
    for file in os.listdir(folder):
        if file.startswith(pattern):
            with open(os.path.join(folder, file)) as f:
                written |= set(re.findall(r'"(response\.[a-z_.]+)"' if own else r'\bevent\(out, "([a-z_]+)"\)', f.read()))
    assert len(written) >= 6 and written - own <= types_of(union), written - types_of(union)
