// The `ollama`, `openai` and `@anthropic-ai/sdk` packages, and the AI SDK with the three providers that Cline is built on, against the tandem at
// $TANDEM_URL. Run by test_node.py; prompts of known size come from there in the JSON file $TANDEM_PROMPTS.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import Anthropic from '@anthropic-ai/sdk'
import { createAnthropic } from '@ai-sdk/anthropic'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, generateText, streamText, tool } from 'ai'
import { Ollama } from 'ollama'
import { createOllama } from 'ollama-ai-provider-v2'
import OpenAI from 'openai'
import { z } from 'zod'

const url = process.env.TANDEM_URL
const { prompts, slow, tools, cut, late, overflow, hang } = JSON.parse(readFileSync(process.env.TANDEM_PROMPTS))
const model = 'm:1b'
const answer = [...Array(16).keys()].map(i => `w${i}`).join(' ')
const user = content => [{ role: 'user', content }]

const ollama = new Ollama({ host: url })
const openai = new OpenAI({ baseURL: url + '/v1', apiKey: 'unused', maxRetries: 0 })
const anthropic = new Anthropic({ baseURL: url, apiKey: 'unused', maxRetries: 0 })
const sdks = {
  'ollama-ai-provider': createOllama({ baseURL: url + '/api' })(model),
  'anthropic-provider': createAnthropic({ baseURL: url + '/v1', apiKey: 'unused' })(model),
  'openai-compatible': createOpenAICompatible({ name: 'tandem', baseURL: url + '/v1', includeUsage: true })(model),
}
const once = { maxRetries: 0, maxOutputTokens: 512 }
const warnings = []
console.warn = (...words) => warnings.push(words.join(' '))

async function ollamaText(content, more = {}) {
  let text = ''
  for await (const part of await ollama.chat({ model, messages: user(content), stream: true, ...more }))
    text += part.message.content
  return text
}

async function openaiText(content) {
  let text = ''
  for await (const chunk of await openai.chat.completions.create({ model, messages: user(content), stream: true }))
    text += chunk.choices[0]?.delta?.content ?? ''
  return text
}

for (const [name, prompt] of [...Object.entries(prompts), ['slow', slow]]) {
  test(`ollama ${name}`, async () => {
    assert.equal(await ollamaText(prompt), answer)
    assert.equal((await ollama.chat({ model, messages: user(prompt) })).message.content, answer)
    assert.equal((await ollama.generate({ model, prompt })).response, answer)
  })
  test(`openai ${name}`, async () => {
    assert.equal(await openaiText(prompt), answer)
    const whole = await openai.chat.completions.create({ model, messages: user(prompt) })
    assert.equal(whole.choices[0].message.content, answer)
  })
  test(`responses ${name}`, async () => {
    const stream = openai.responses.stream({ model, input: prompt })
    const events = []
    for await (const event of stream) events.push(event)
    assert.equal(events.filter(e => e.type === 'response.output_text.delta').map(e => e.delta).join(''), answer)
    assert.deepEqual(events.map(e => e.sequence_number), [...events.keys()])
    const final = await stream.finalResponse()
    assert.deepEqual([final.status, final.output_text, final.usage.output_tokens], ['completed', answer, 16])
    assert.equal((await openai.responses.create({ model, input: user(prompt) })).output_text, answer)
  })
  test(`anthropic ${name}`, async () => {
    const asked = { model, max_tokens: 512, messages: user(prompt) }
    const streamed = await anthropic.messages.stream(asked).finalMessage()
    assert.deepEqual(streamed.content.map(b => [b.type, b.text]), [['text', answer]])
    assert.equal(streamed.stop_reason, 'end_turn')
    assert.deepEqual((await anthropic.messages.create(asked)).content.map(b => b.text), [answer])
  })
  for (const [sdk, languageModel] of Object.entries(sdks))
    test(`${sdk} ${name}`, async () => {
      const result = streamText({ model: languageModel, prompt, ...once })
      const parts = []
      for await (const part of result.fullStream) parts.push(part)
      assert.deepEqual(parts.filter(p => p.type === 'error'), [])
      assert.equal(parts.filter(p => p.type === 'text-delta').map(p => p.text).join(''), answer)
      assert.equal(await result.finishReason, 'stop')
      assert.ok((await result.usage).inputTokens > 0)
      assert.equal((await generateText({ model: languageModel, prompt, ...once })).text, answer)
    })
}

test('ollama tools', async () => {
  const read = { type: 'function', function: { name: 'read' } }
  const { message } = await ollama.chat({ model, messages: user(tools), tools: [read] })
  assert.deepEqual(message.tool_calls.map(c => [c.function.name, c.function.arguments]), [['read', { path: 'a.c' }]])
})

test('openai tools', async () => {
  const read = { type: 'function', function: { name: 'read', parameters: {} } }
  const runner = openai.chat.completions.stream({ model, messages: user(tools), tools: [read] })
  const { message, finish_reason } = (await runner.finalChatCompletion()).choices[0]
  assert.equal(finish_reason, 'tool_calls')
  assert.deepEqual(JSON.parse(message.tool_calls[0].function.arguments), { path: 'a.c' })
})

for (const [sdk, languageModel] of Object.entries(sdks)) {
  test(`${sdk} tools`, async () => {
    const read = tool({ inputSchema: z.object({ path: z.string() }), execute: async ({ path }) => `contents of ${path}` })
    const result = streamText({ model: languageModel, prompt: tools, tools: { read }, ...once })
    assert.deepEqual((await result.toolCalls).map(c => c.input), [{ path: 'a.c' }])
    assert.deepEqual((await result.toolResults).map(r => r.output), ['contents of a.c'])
  })

  test(`${sdk} overflow`, async () => {
    await assert.rejects(generateText({ model: languageModel, system: overflow, prompt: 'hi', ...once }), e => {
      assert.ok(APICallError.isInstance(e), e)
      assert.equal(e.statusCode, 400)
      assert.match(e.message + e.responseBody, /maximum context length is \d+ tokens|prompt is too long: \d+ tokens/)
      return true
    })
  })
}

test('errors', async () => {
  await assert.rejects(ollama.chat({ model: 'nobody', messages: user('hi') }), /not found/)
  await assert.rejects(ollamaText(cut), /./)
  await assert.rejects(openaiText(cut), /./)
  await assert.rejects(ollamaText(late), /out of memory/)
  await assert.rejects(openaiText(late), /out of memory/)
})

test('abort', async () => {
  const stream = await ollama.chat({ model, messages: user(hang), stream: true })
  await assert.rejects(async () => {
    for await (const _ of stream) stream.abort()
  }, { name: 'AbortError' })
  const other = await openai.chat.completions.create({ model, messages: user(hang), stream: true })
  for await (const _ of other) other.controller.abort()
})

test('models', async () => {
  const names = ['m:1b', 's:0.5b']
  assert.deepEqual((await ollama.list()).models.map(m => m.model), names)
  assert.deepEqual((await openai.models.list()).data.map(m => m.id), names)
  assert.ok((await ollama.show({ model })).capabilities.includes('completion'))
  assert.match((await ollama.version()).version, /^\d+\.\d+/)
})

test('no client warned of a line it did not understand', () => assert.deepEqual(warnings, []))

test('anthropic tools, counts, models, errors', async () => {
  const read = { name: 'read', description: 'Reads a file.', input_schema: { type: 'object', properties: { path: { type: 'string' } } } }
  const message = await anthropic.messages.stream({ model, max_tokens: 512, messages: user(tools), tools: [read] }).finalMessage()
  assert.deepEqual(message.content.filter(b => b.type === 'tool_use').map(b => b.input), [{ path: 'a.c' }])
  assert.equal(message.stop_reason, 'tool_use')
  assert.ok((await anthropic.messages.countTokens({ model, messages: user('word '.repeat(100)) })).input_tokens > 50)
  for await (const listed of anthropic.models.list()) assert.equal(listed.type, 'model')
  const tooLong = [...user(overflow), { role: 'assistant', content: 'So' }]
  await assert.rejects(anthropic.messages.create({ model, max_tokens: 9, messages: tooLong }),
    e => e instanceof Anthropic.BadRequestError && /prompt is too long: \d+ tokens > \d+ maximum/.test(e.message) && e.requestID.startsWith('req_'))
  await assert.rejects(anthropic.messages.stream({ model, max_tokens: 9, messages: user(late) }).finalMessage(), /out of memory/)
})

test('responses tools, forms, counts, errors', async () => {
  const read = { type: 'function', name: 'read', strict: false, parameters: { type: 'object', properties: { path: { type: 'string' } } } }
  const response = await openai.responses.stream({ model, input: tools, tools: [read] }).finalResponse()
  const call = response.output.find(i => i.type === 'function_call')
  assert.deepEqual([call.name, JSON.parse(call.arguments)], ['read', { path: 'a.c' }])
  const output = { type: 'function_call_output', call_id: call.call_id, output: 'int main;' }
  assert.equal((await openai.responses.create({ model, input: [...user('read'), ...response.output, output], tools: [read] })).output_text, answer)
  const format = { type: 'json_schema', name: 'n', strict: true, schema: { type: 'object', properties: { a: { type: 'string' } } } }
  const json = `hi [[fake text=${encodeURIComponent('{"a":"b"}')}]]`
  assert.deepEqual((await openai.responses.parse({ model, input: json, text: { format } })).output_parsed, { a: 'b' })
  assert.ok((await openai.responses.inputTokens.count({ model, input: 'word '.repeat(100) })).input_tokens > 50)
  const tooLong = [...user(overflow), { role: 'assistant', content: 'So' }]
  await assert.rejects(openai.responses.create({ model, input: tooLong }), e => e.status === 400 && e.code === 'context_length_exceeded')
  assert.equal((await openai.responses.stream({ model, input: tooLong }).finalResponse()).error.code, 'context_length_exceeded')
  assert.equal((await openai.responses.stream({ model, input: late }).finalResponse()).error.message, 'out of memory')
  await assert.rejects(openai.responses.retrieve('resp_1'), /stored/)
})

test('responses compaction', async () => {
  const management = [{ type: 'compaction', compact_threshold: 1000 }]
  const input = [...user('What is in it?'), { role: 'assistant', content: 'word '.repeat(3000) }, ...user('Sum it up.')]
  const compacted = await openai.responses.compact({ model, input })
  assert.equal(compacted.object, 'response.compaction')
  const outputs = [compacted.output, (await openai.responses.create({ model, input, context_management: management })).output,
    (await openai.responses.stream({ model, input, context_management: management }).finalResponse()).output,
    (await openai.responses.stream({ model, input: [...input, { type: 'compaction_trigger' }] }).finalResponse()).output]
  for (const output of outputs) {
    const blocks = output.filter(i => i.type === 'compaction')
    assert.equal(blocks.length, 1)
    assert.match(blocks[0].encrypted_content, /Sum it up/)
    assert.equal((await openai.responses.create({ model, input: [...output, ...user('Go on.')] })).output_text, answer)
    await assert.rejects(openai.responses.create({ model, input: [{ ...blocks[0], encrypted_content: 'x' }, ...user('Go on.')] }),
      e => e.status === 400 && e.code === 'invalid_encrypted_content')
  }
})

test('anthropic tool runner, which would have the server keep the conversation', async () => {
  const tool = { name: 'read', description: 'Reads a file.', input_schema: { type: 'object' }, parse: x => x, run: async () => 'said by a.c' }
  const runner = anthropic.beta.messages.toolRunner({ model, max_tokens: 512, max_iterations: 3, messages: user(tools), tools: [tool] })
  const reasons = []
  for await (const message of runner) reasons.push(message.stop_reason)
  assert.deepEqual(reasons, ['tool_use', 'tool_use', 'tool_use']) // the scripted model calls again where it sees the first message
})

test('anthropic compaction', async () => {
  const betas = ['compact-2026-09-04'], asked = { model, max_tokens: 512, messages: user('word '.repeat(2000)), betas }
  for (const wanted of [{ compaction: { type: 'summarize' } }, { context_management: { edits: [{ type: 'compact_20260112', pause_after_compaction: true,
    trigger: { type: 'input_tokens', value: 1000 } }] } }]) {
    const message = await anthropic.beta.messages.stream({ ...asked, ...wanted }).finalMessage()
    const [block] = message.content
    assert.equal(message.stop_reason, 'compaction')
    assert.deepEqual([message.content.length, block.type, block.signature.length], [1, 'compaction', 32])
    assert.match(block.content, /word word/)
    const next = await anthropic.beta.messages.create({ ...asked, messages: [{ role: 'assistant', content: [block] }, ...user('Go on.')] })
    assert.equal(next.content[0].text, answer)
  }
})
