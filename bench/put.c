/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The reference of bench/run: what libcurl alone costs to PUT a file with a
 * ready token.  Hashes nothing, checks no ETag, writes no log.  Prints
 * the microseconds that curl_easy_perform() took.
 */
#include <curl/curl.h>

#include <stdio.h>
#include <sysexits.h>
#include <time.h>

static struct curl_slist *
make_headers(const char *token)
{
	struct curl_slist *headers;
	char line[1024];

	headers = curl_slist_append(NULL, "Expect:");
	if (*token == '\0')
		return headers;
	(void)snprintf(line, sizeof(line), "X-Auth-Token: %s", token);
	return curl_slist_append(headers, line);
}

static size_t
drop(char *data, size_t size, size_t n, void *context)
{
	(void)data;
	(void)context;
	return size * n;
}

static long long
now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int
main(int argc, char **argv)
{
	struct curl_slist *headers;
	CURLcode code;
	CURL *curl;
	FILE *file;
	long long started_us;
	long size, status;

	if (argc < 4 || argc > 5) {
		(void)fputs("usage: put URL TOKEN FILE [CAPATH]\n", stderr);
		return EX_USAGE;
	}
	file = fopen(argv[3], "rb");
	if (file == NULL || fseek(file, 0, SEEK_END) == -1)
		return EX_NOINPUT;
	size = ftell(file);
	rewind(file);
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		return EX_UNAVAILABLE;
	curl = curl_easy_init();
	headers = make_headers(argv[2]);
	if (curl == NULL || headers == NULL)
		return EX_UNAVAILABLE;
	(void)curl_easy_setopt(curl, CURLOPT_URL, argv[1]);
	(void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	(void)curl_easy_setopt(curl, CURLOPT_UPLOAD, 1L);
	(void)curl_easy_setopt(curl, CURLOPT_READDATA, file);
	(void)curl_easy_setopt(curl, CURLOPT_INFILESIZE_LARGE,
	    (curl_off_t)size);
	(void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, drop);
	(void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
	/* As swiftdrop: a hashed folder, never the whole bundle. */
	(void)curl_easy_setopt(curl, CURLOPT_CAINFO, NULL);
	if (argc == 5)
		(void)curl_easy_setopt(curl, CURLOPT_CAPATH, argv[4]);
	started_us = now_us();
	code = curl_easy_perform(curl);
	started_us = now_us() - started_us;
	status = 0;
	(void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_cleanup(curl);
	curl_slist_free_all(headers);
	(void)fclose(file);
	if (code != CURLE_OK || status != 201) {
		(void)fprintf(stderr, "put: %s, answered %ld\n",
		    curl_easy_strerror(code), status);
		return EX_UNAVAILABLE;
	}
	(void)printf("%lld\n", started_us);
	return EX_OK;
}
