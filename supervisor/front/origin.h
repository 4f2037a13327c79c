/*
 * Which web pages may use the gateway: the rules of Ollama (server/routes.go and envconfig of
 * v0.33.0, gin-contrib/cors v1.7.2), so that what works in a browser against Ollama works here, and
 * a page from anywhere else cannot reach the user's models.
 *
 *   Origin  pages of this machine (http/https localhost, 127.0.0.1, 0.0.0.0, any port), local
 *           applications (app, file, tauri, vscode-webview, vscode-file), and the page's own host.
 *           Programs send none. Beside them those of the `origins` key and of OLLAMA_ORIGINS in
 *           the environment ("chrome-extension://abc", "http://10.1.2.3:*", "*").
 *   Host    looked at when we listen on loopback only: an address or name that can mean this
 *           machine. A name that an attacker's DNS points at 127.0.0.1 (rebinding) is refused.
 */
#ifndef TANDEM_ORIGIN_H
#define TANDEM_ORIGIN_H

#include "supervisor/front/front.h"

/* Is this a page that may call us from another host, whatever is configured? "null" (sandboxed
 * pages) may not. */
bool origin_allowed(const char *origin);

/* Is it of a pattern: the same text (ASCII case ignored), where one "*" stands for any? */
bool origin_matches(struct slice pattern, const char *origin);

/* Is the question from a page that this very server gave, or from no page at all? Origin says so, and
 * Sec-Fetch-Site (W3C Fetch Metadata) where a browser sends it: what origin_gate() lets in is more. */
bool origin_is_own(const struct exchange *x);

/* Does the value of a Host header, port or not, name this machine? An address that is neither
 * loopback nor private is looked up among the interfaces (getifaddrs, tens of microseconds). */
bool host_allowed(const char *host);

/*
 * To be called at an exchange's head, before anything else answers. True when it has answered:
 * 403 without a body, or 204 to a preflight. Else the request may go on, and the headers that let
 * the page read the answer are already added to it. `origins`: patterns beside the rules above,
 * NULL-terminated; NULL: none.
 */
bool origin_gate(struct exchange *x, bool loopback, char *const *origins);

#endif
