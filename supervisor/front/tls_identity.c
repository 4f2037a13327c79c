#include "supervisor/front/tls.h"

#include <errno.h>
#include <stdlib.h>

#include <gnutls/gnutls.h>

struct tls_identity {
	gnutls_certificate_credentials_t credentials;
	unsigned holds;
};

int tls_identity_load(
	const char *certificate, const char *key, struct tls_identity **out, struct buf *err)
{
	struct tls_identity *i = calloc(1, sizeof(*i));
	if (!i || gnutls_certificate_allocate_credentials(&i->credentials)) {
		free(i);
		buf_add_str(err, "out of memory");
		return -ENOMEM;
	}
	i->holds = 1;
	int rc = gnutls_certificate_set_x509_key_file2(
		i->credentials, certificate, key, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (rc < 0) {
		buf_printf(err, "listen.certificate %s with listen.key %s: %s", certificate, key,
			gnutls_strerror(rc));
		tls_identity_release(i);
		return -EINVAL;
	}
	*out = i;
	return 0;
}

struct tls_identity *tls_identity_hold(struct tls_identity *i)
{
	i->holds++;
	return i;
}

void tls_identity_release(struct tls_identity *i)
{
	if (--i->holds > 0)
		return;
	gnutls_certificate_free_credentials(i->credentials);
	free(i);
}

void *tls_identity_credentials(const struct tls_identity *i)
{
	return i->credentials;
}
