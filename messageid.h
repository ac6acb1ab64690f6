/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * MESSAGE_IDs of the log lines, one for each verb.
 *
 * Random 128-bit numbers (sd-id128(3)), never changed and never used again
 * for anything else: administrators' filters and alerts rely on them.
 * units/swiftdrop.catalog explains each of them to journalctl -x.
 */
#ifndef MESSAGEID_H
#define MESSAGEID_H

/* One for each verb of an event that concerns a message. */
#define MESSAGE_ID_STORED    "2736259afce744e692a99f018a0055d2"
#define MESSAGE_ID_DEFERRED  "67a4e93b46c44ca28e14b979411aba41"
#define MESSAGE_ID_REJECTED  "e3af66668ddc451e96ecd92dc766616c"
#define MESSAGE_ID_FORWARDED "e82f5ceeba7a444badb03451bc8e9dcf"
#define MESSAGE_ID_IN_DOUBT  "09e121ff754a419ebefc18fb495f0048"
#define MESSAGE_ID_LOST      "ba0a21e926404972a075bc62659b2dc2"

/* swiftdrop cannot start: its configuration or its descriptors. */
#define MESSAGE_ID_CONFIG    "64110bc00feb4b57acd3c196e735f8e3"

/* An account's fault: which account, which request, which status. */
#define MESSAGE_ID_ACCOUNT   "d98f948b7dc846c9bcc0806a1d3b9507"

#endif
