/* Requests for embeddings in each form, asked of each backend, and the answers back. */
#include "common/dialect/embed.h"
#include "tests/unit/test_dialect.h"

#define NAMED EMBED_OLLAMA
#define OLDER EMBED_OLLAMA_OLDER
#define OPENAI EMBED_OPENAI

#define RAW "(raw)"
#define NOTHING ""

static void paths(void **state)
{
	enum embed_form form;
	(void)state;
	assert_true(embed_path(SLICE("/api/embed"), &form));
	assert_int_equal(form, NAMED);
	assert_true(embed_path(SLICE("/api/embeddings?a=/b"), &form));
	assert_int_equal(form, OLDER);
	assert_true(embed_path(SLICE("/v1/embeddings"), &form));
	assert_int_equal(form, OPENAI);
	assert_false(embed_path(SLICE("/v1/embeddings/"), &form));
	assert_false(embed_path(SLICE("/embedding"), &form));
	assert_false(embed_path((struct slice){0}, &form));
}

static const struct {
	enum embed_form form;
	enum backend_api back;
	const char *body;
	const char *sent; /* NULL: refused, with these words of it */
	const char *words;
} requests[] = {
	/* Ollama's before others. */
	{NAMED, BACKEND_LLAMA_SERVER, "{'model':'m','input':'a\\u00e9','truncate':true}",
		"{'model':'m','encoding_format':'float','input':'a\\u00e9'}", NULL},
	{NAMED, BACKEND_LLAMA_SERVER, "{'name':'m','input':['a', 'b'],'dimensions':64}",
		"{'model':'m','encoding_format':'float','input':['a', 'b']}", NULL},
	{NAMED, BACKEND_OPENAI, "{'model':'m','input':['a'],'dimensions':64}",
		"{'model':'m','encoding_format':'float','input':['a'],'dimensions':64}", NULL},
	{OLDER, BACKEND_LLAMA_SERVER, "{'model':'m','prompt':'a'}",
		"{'model':'m','encoding_format':'float','input':'a'}", NULL},
	{NAMED, BACKEND_OPENAI, "{'model':'m','input':[]}", NOTHING, NULL},
	{NAMED, BACKEND_OPENAI, "{'model':'m','input':''}", NOTHING, NULL},
	{NAMED, BACKEND_OPENAI, "{'model':'m'}", NOTHING, NULL},
	{OLDER, BACKEND_OPENAI, "{'model':'m','prompt':''}", NOTHING, NULL},
	{OLDER, BACKEND_OPENAI, "{'model':'m','prompt':['a']}", NULL, "input type"},
	{NAMED, BACKEND_OPENAI, "{'model':'m','input':3}", NULL, "input type"},
	{NAMED, BACKEND_OPENAI, "{'model':'m','input':['a',3]}", NULL, "input type"},
	{NAMED, BACKEND_OPENAI, "{'model':'m','input':[1,2]}", NULL, "input type"},
	{NAMED, BACKEND_OPENAI, "{'model':'m','input':'a','dimensions':'x'}", NULL, "dimensions"},
	{NAMED, BACKEND_OPENAI, "{'model':'','input':'a'}", NULL, "model is required"},
	{NAMED, BACKEND_OPENAI, "{'input':'a'}", NULL, "model is required"},
	{NAMED, BACKEND_OPENAI, "[]", NULL, "invalid JSON"},
	{NAMED, BACKEND_OPENAI, "{", NULL, "invalid JSON"},
	{NAMED, BACKEND_OPENAI, "", NULL, "missing request body"},
	/* OpenAI's before Ollama. */
	{OPENAI, BACKEND_OLLAMA,
		"{'model':'m','input':'a','encoding_format':'base64','dimensions':2,'user':'u'}",
		"{'model':'m','input':'a','truncate':false}", NULL},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':[ 'a','b'],'encoding_format':null}",
		"{'model':'m','input':[ 'a','b'],'truncate':false}", NULL},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':[1,2]}", NULL, "not token ids"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':[[1],[2]]}", NULL, "not token ids"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':''}", NULL, "must not be empty"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':[]}", NULL, "must not be empty"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m'}", NULL, "must not be empty"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':{}}", NULL, "'input' must be"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':['a',[]]}", NULL, "'input' must be"},
	{OPENAI, BACKEND_OLLAMA, "{'input':'a'}", NULL, "'model' is required"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':'a','encoding_format':'int8'}", NULL,
		"'encoding_format' must be"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':'a','dimensions':0}", NULL,
		"'dimensions' must be"},
	{OPENAI, BACKEND_OLLAMA, "{'model':'m','input':'a','dimensions':1.5}", NULL,
		"'dimensions' must be"},
	/* ... before those of its own API: but llama-server knows no dimensions. */
	{OPENAI, BACKEND_LLAMA_SERVER, "{'input':[[1,2],[3]],'encoding_format':'base64'}", RAW,
		NULL},
	{OPENAI, BACKEND_LLAMA_SERVER,
		"{'input':[[1,2],[3]],'encoding_format':'base64','dimensions':2}",
		"{'encoding_format':'float','input':[[1,2],[3]]}", NULL},
	{OPENAI, BACKEND_OPENAI, "{'model':'m','input':[1,2],'dimensions':2}", RAW, NULL},
};

static void each_request(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(requests); i++) {
		struct embed_request r = {.form = requests[i].form, .back = requests[i].back};
		struct dialect_error error = {0};
		struct buf out;
		char *body = json_of(requests[i].body);
		buf_init(&out, 0);
		int rc = embed_request_read(&r, slice_str(body), &out, &error);
		if (requests[i].sent) {
			bool raw = strcmp(requests[i].sent, RAW) == 0;
			char *sent = json_of(raw ? "" : requests[i].sent);
			assert_int_equal(rc, 0);
			assert_int_equal(r.raw, raw);
			assert_int_equal(r.nothing, !raw && !*sent);
			assert_string_equal(buf_cstr(&out), sent);
			free(sent);
		} else {
			assert_int_equal(rc, -EINVAL);
			assert_int_equal(error.status, 400);
			assert_non_null(strstr(error.text, requests[i].words));
		}
		embed_request_fini(&r);
		buf_free(&out);
		free(body);
	}
}

#define THEIRS                                                                                     \
	"{'object':'list','data':[{'index':1,'embedding':[3,4]},{'index':0,'embedding':[1,-2.5e-"  \
	"1]}],'usage':{'prompt_tokens':7}}"
#define OLLAMAS "{'model':'x','embeddings':[[3,4,12],[0,0,5]],'prompt_eval_count':7}"
#define OF(vectors, n)                                                                             \
	"{'object':'list','data':[" vectors "],'model':'m','usage':{'prompt_tokens':" n            \
	",'total_tokens':" n "}}"

static const struct {
	struct embed_request r;
	const char *theirs, *ours; /* NULL: it is no answer */
} answers[] = {
	{{.form = NAMED, .back = BACKEND_OPENAI, .texts = 2}, THEIRS,
		"{'model':'m','embeddings':[[1,-2.5e-1],[3,4]],'total_duration':5,'prompt_eval_"
		"count':7}"},
	{{.form = NAMED, .back = BACKEND_LLAMA_SERVER, .texts = 2, .dimensions = 1}, THEIRS,
		"{'model':'m','embeddings':[[1],[1]],'total_duration':5,'prompt_eval_count':7}"},
	{{.form = OLDER, .back = BACKEND_OPENAI, .texts = 1},
		"{'data':[{'index':0,'embedding':[1]}]}", "{'embedding':[1]}"},
	{{.form = NAMED, .nothing = true}, "", "{'model':'m','embeddings':[],'total_duration':5}"},
	{{.form = OLDER, .nothing = true}, "", "{'embedding':[]}"},
	{{.form = OPENAI, .back = BACKEND_OLLAMA, .texts = 2}, OLLAMAS,
		OF("{'object':'embedding','embedding':[3,4,12],'index':0},{'object':'embedding','"
		   "embedding':[0,0,5],'index':1}",
			"7")},
	/* Cut to a length of 1 again; one that is short enough keeps its digits' values. */
	{{.form = OPENAI, .back = BACKEND_OLLAMA, .texts = 2, .dimensions = 2}, OLLAMAS,
		OF("{'object':'embedding','embedding':[0.600000024,0.800000012],'index':0},"
		   "{'object':'embedding','embedding':[0,0],'index':1}",
			"7")},
	{{.form = OPENAI, .back = BACKEND_OLLAMA, .texts = 2, .dimensions = 9}, OLLAMAS,
		OF("{'object':'embedding','embedding':[3,4,12],'index':0},{'object':'embedding','"
		   "embedding':[0,0,5],'index':1}",
			"7")},
	/* 3.0f is 00 00 40 40. */
	{{.form = OPENAI, .back = BACKEND_OLLAMA, .texts = 1, .base64 = true},
		"{'embeddings':[[3]]}",
		OF("{'object':'embedding','embedding':'AABAQA==','index':0}", "0")},
	{{.form = OPENAI, .back = BACKEND_OLLAMA, .texts = 1, .base64 = true},
		"{'embeddings':[[3,3]]}",
		OF("{'object':'embedding','embedding':'AABAQAAAQEA=','index':0}", "0")},
	{{.form = OPENAI, .back = BACKEND_OLLAMA, .texts = 1, .base64 = true},
		"{'embeddings':[[3,3,3]]}",
		OF("{'object':'embedding','embedding':'AABAQAAAQEAAAEBA','index':0}", "0")},
	/* No answers. */
	{{.form = NAMED, .texts = 1}, "", NULL},
	{{.form = NAMED, .texts = 1}, "{}", NULL},
	{{.form = NAMED, .texts = 1, .back = BACKEND_OPENAI}, "[]", NULL},
	{{.form = NAMED, .texts = 1, .back = BACKEND_OPENAI}, "{'data':[]}", NULL},
	{{.form = NAMED, .texts = 1, .back = BACKEND_OPENAI}, "{'data':[{}]}", NULL},
	{{.form = NAMED, .texts = 1, .back = BACKEND_OPENAI}, "{'data':[{'embedding':'AAAA'}]}",
		NULL},
	{{.form = NAMED, .texts = 2, .back = BACKEND_OPENAI},
		"{'data':[{'index':0,'embedding':[1]},{'index':0,'embedding':[1]}]}", NULL},
	{{.form = OLDER, .texts = 1, .back = BACKEND_OPENAI}, THEIRS, NULL},
	{{.form = OPENAI, .texts = 1, .back = BACKEND_OLLAMA, .base64 = true},
		"{'embeddings':[['x']]}", NULL},
	{{.form = OPENAI, .texts = 1, .back = BACKEND_OLLAMA, .base64 = true},
		"{'embeddings':[[1e300]]}", NULL},
	{{.form = OPENAI, .texts = 2, .back = BACKEND_OLLAMA}, "{'embeddings':[[1]]}", NULL},
};

static void each_answer(void **state)
{
	(void)state;
	for (size_t i = 0; i < COUNT(answers); i++) {
		struct embed_request r = answers[i].r;
		char *theirs = json_of(answers[i].theirs);
		struct buf out;
		r.name = SLICE("\"m\"");
		buf_init(&out, 0);
		int rc = embed_answer_write(&r, slice_str(theirs), 5, &out);
		if (answers[i].ours) {
			char *ours = json_of(answers[i].ours);
			assert_int_equal(rc, 0);
			assert_string_equal(buf_cstr(&out), ours);
			free(ours);
		} else {
			assert_int_equal(rc, -EPROTO);
		}
		buf_free(&out);
		free(theirs);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths),
		cmocka_unit_test(each_request),
		cmocka_unit_test(each_answer),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
