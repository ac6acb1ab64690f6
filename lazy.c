/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Libraries that are loaded at first use: each function of theirs that the
 * program calls is defined here and passes the call on.  The names and
 * types are those of the libraries' headers, so the compiler checks both
 * sides; lazy_load() has looked up every address before one is called.
 */
#include <curl/curl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <systemd/sd-daemon.h>

#include <dlfcn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "lazy.h"

#include "banned.h"

/* These are macros that check types around functions of the same name. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

#define CURL_FUNCTIONS(X)                                                      \
	X(curl_global_init)                                                    \
	X(curl_easy_init)                                                      \
	X(curl_easy_setopt)                                                    \
	X(curl_easy_perform)                                                   \
	X(curl_easy_getinfo)                                                   \
	X(curl_easy_reset)                                                     \
	X(curl_easy_cleanup)                                                   \
	X(curl_easy_strerror)                                                  \
	X(curl_slist_append)                                                   \
	X(curl_slist_free_all)

#define CRYPTO_FUNCTIONS(X)                                                    \
	X(EVP_MD_CTX_new)                                                      \
	X(EVP_MD_CTX_free)                                                     \
	X(EVP_DigestInit_ex)                                                   \
	X(EVP_DigestUpdate)                                                    \
	X(EVP_DigestFinal_ex)                                                  \
	X(EVP_md5)                                                             \
	X(EVP_sha1)                                                            \
	X(EVP_sha256)                                                          \
	X(EVP_sha512)                                                          \
	X(HMAC)

#define SYSTEMD_FUNCTIONS(X)                                                   \
	X(sd_listen_fds)                                                       \
	X(sd_is_socket)

#define POINTER(name) static __typeof__(name) *name##_;
CURL_FUNCTIONS(POINTER)
CRYPTO_FUNCTIONS(POINTER)
SYSTEMD_FUNCTIONS(POINTER)

struct symbol {
	const char *name;
	void *pointer; /* address of the pointer above */
};

#define SYMBOL(name) { #name, &name##_ },
static const struct symbol curl_symbols[] = { CURL_FUNCTIONS(SYMBOL) };
static const struct symbol crypto_symbols[] = { CRYPTO_FUNCTIONS(SYMBOL) };
static const struct symbol systemd_symbols[] = { SYSTEMD_FUNCTIONS(SYMBOL) };

#define LIBRARY(soname, symbols)                                               \
	{                                                                      \
		soname, symbols, sizeof(symbols) / sizeof((symbols)[0])        \
	}
static const struct library {
	const char *soname;
	const struct symbol *symbols;
	size_t n;
} libraries[] = {
	[LAZY_CURL] = LIBRARY("libcurl.so.4", curl_symbols),
	[LAZY_CRYPTO] = LIBRARY("libcrypto.so.3", crypto_symbols),
	[LAZY_SYSTEMD] = LIBRARY("libsystemd.so.0", systemd_symbols),
};

static const char *failure = "";

int
lazy_load(enum lazy_library which)
{
	static bool loaded[sizeof(libraries) / sizeof(libraries[0])];
	const struct library *library;
	void *handle, *address;
	size_t i;

	if (loaded[which])
		return 0;
	library = &libraries[which];
	handle = dlopen(library->soname, RTLD_NOW | RTLD_LOCAL);
	for (i = 0; handle != NULL && i < library->n; i++) {
		address = dlsym(handle, library->symbols[i].name);
		if (address == NULL)
			handle = NULL;
		/* POSIX lets an object pointer hold a function's address. */
		memcpy(library->symbols[i].pointer, &address, sizeof(address));
	}
	if (handle == NULL) {
		failure = dlerror();
		if (failure == NULL)
			failure = "a library cannot be loaded";
		return -1;
	}
	loaded[which] = true;
	return 0;
}

const char *
lazy_error(void)
{
	return failure;
}

CURLcode
curl_global_init(long flags)
{
	return curl_global_init_(flags);
}

CURL *
curl_easy_init(void)
{
	return curl_easy_init_();
}

/* Options are a long, a pointer or a curl_off_t, by their number's range. */
CURLcode
curl_easy_setopt(CURL *curl, CURLoption option, ...)
{
	va_list args;
	CURLcode code;

	va_start(args, option);
	/* Where a long is a curl_off_t, two of these are the same. */
	/* NOLINTBEGIN(bugprone-branch-clone) */
	if ((int)option < CURLOPTTYPE_OBJECTPOINT)
		code = curl_easy_setopt_(curl, option, va_arg(args, long));
	else if ((int)option >= CURLOPTTYPE_OFF_T &&
		 (int)option < CURLOPTTYPE_BLOB)
		code =
		    curl_easy_setopt_(curl, option, va_arg(args, curl_off_t));
	else
		code = curl_easy_setopt_(curl, option, va_arg(args, void *));
	/* NOLINTEND(bugprone-branch-clone) */
	va_end(args);
	return code;
}

CURLcode
curl_easy_perform(CURL *curl)
{
	return curl_easy_perform_(curl);
}

CURLcode
curl_easy_getinfo(CURL *curl, CURLINFO info, ...)
{
	va_list args;
	CURLcode code;

	va_start(args, info);
	code = curl_easy_getinfo_(curl, info, va_arg(args, void *));
	va_end(args);
	return code;
}

void
curl_easy_reset(CURL *curl)
{
	curl_easy_reset_(curl);
}

void
curl_easy_cleanup(CURL *curl)
{
	curl_easy_cleanup_(curl);
}

const char *
curl_easy_strerror(CURLcode code)
{
	return curl_easy_strerror_(code);
}

struct curl_slist *
curl_slist_append(struct curl_slist *list, const char *data)
{
	return curl_slist_append_(list, data);
}

void
curl_slist_free_all(struct curl_slist *list)
{
	curl_slist_free_all_(list);
}

EVP_MD_CTX *
EVP_MD_CTX_new(void)
{
	return EVP_MD_CTX_new_();
}

void
EVP_MD_CTX_free(EVP_MD_CTX *ctx)
{
	EVP_MD_CTX_free_(ctx);
}

int
EVP_DigestInit_ex(EVP_MD_CTX *ctx, const EVP_MD *type, ENGINE *impl)
{
	return EVP_DigestInit_ex_(ctx, type, impl);
}

int
EVP_DigestUpdate(EVP_MD_CTX *ctx, const void *d, size_t cnt)
{
	return EVP_DigestUpdate_(ctx, d, cnt);
}

int
EVP_DigestFinal_ex(EVP_MD_CTX *ctx, unsigned char *md, unsigned int *s)
{
	return EVP_DigestFinal_ex_(ctx, md, s);
}

const EVP_MD *
EVP_md5(void)
{
	return EVP_md5_();
}

const EVP_MD *
EVP_sha1(void)
{
	return EVP_sha1_();
}

const EVP_MD *
EVP_sha256(void)
{
	return EVP_sha256_();
}

const EVP_MD *
EVP_sha512(void)
{
	return EVP_sha512_();
}

/* As many parameters as OpenSSL gives it. */
unsigned char *
/* NOLINTNEXTLINE(readability-function-size) */
HMAC(const EVP_MD *evp_md, const void *key, int key_len,
    const unsigned char *data, size_t data_len, unsigned char *md,
    unsigned int *md_len)
{
	return HMAC_(evp_md, key, key_len, data, data_len, md, md_len);
}

int
sd_listen_fds(int unset_environment)
{
	return sd_listen_fds_(unset_environment);
}

int
sd_is_socket(int fd, int family, int type, int listening)
{
	return sd_is_socket_(fd, family, type, listening);
}
