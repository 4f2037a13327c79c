"""langchain_agent.py PROVIDER URL MODEL PROMPT: an agent that is nothing but LangChain and the functions of tools.py. Prints each answer."""

import sys

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.tools import tool

import tools

FUNCTIONS = {f.name: f for f in map(tool, (tools.read_file, tools.edit_file, tools.run_command))}


def chat_model(provider, url, model):
    if provider == "openai":
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(base_url=url + "/v1", api_key="unused", model=model, stream_usage=True)
    if provider == "ollama":
        from langchain_ollama import ChatOllama

        return ChatOllama(base_url=url, model=model)
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(base_url=url, api_key="unused", model=model, max_tokens=4096)


def main(provider, url, model, prompt):
    asked = chat_model(provider, url, model).bind_tools(list(FUNCTIONS.values()))
    messages = [SystemMessage("You mend programs."), HumanMessage(prompt)]
    while True:
        answer = None
        for chunk in asked.stream(messages):
            answer = chunk if answer is None else answer + chunk
        print(answer.text)
        messages.append(answer)
        if not answer.tool_calls:
            return
        assert answer.usage_metadata["input_tokens"] > 0
        messages += [FUNCTIONS[call["name"]].invoke(call) for call in answer.tool_calls]


main(*sys.argv[1:])
