/* The kinds of tasks, by the kinds of jobs. */
#include "common/dialect/embed.h"
#include "workers/tasks/task.h"

const struct task_ops *task_kind_ops(const struct worker_self *w, const struct proto_job *job)
{
	enum embed_form form;
	switch (job->kind) {
	case JOB_CHAT:
		return &task_chat_ops;
	case JOB_NOTES:
		return &task_notes_ops;
	case JOB_PASS:
		return embed_path(job->path, &form) &&
				       backend_kind(w->settings.type)->embeds & 1u << form
			       ? &task_embed_ops
			       : &task_pass_ops;
	case JOB_WARM:
		return &task_warm_ops;
	}
	return NULL;
}
