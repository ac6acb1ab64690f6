/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A model of the commitment of one message: what deliver.c and swift.c do
 * behind the end of data, in a world where each answer may be another one or
 * be lost and the program may die at each step.  spin(1) goes through all of
 * it: tests/system/test_model.py, which also holds the calls of the functions
 * here against those of the same names in C.
 *
 * The message goes to none, one or two accounts, to the server behind, or to
 * both.  What must hold, whatever happens:
 *
 *   stored     what was answered 2yz is in each account, whole, and the server
 *              behind has taken it
 *   forwarded  what was refused is not forwarded, but in two windows
 *              (swiftdrop(8), DELIVERY): the answer to the dot was lost,
 *              which the log says; or the server behind refused what it had
 *              queued, which no line says
 *   named      an object that stays and was not answered 2yz is named in the
 *              log, unless the program died
 *   believed   an object that is named has a cause: its PUT got no answer of
 *              Swift's, its DELETE failed, or the answer to the dot was lost
 *   replied    there is a reply, unless the program died
 *   permanent  it is 5yz only where the message, rspamd or the server behind
 *              made it so
 *
 * -DANY_2XX, NO_ETAG, DOT_FIRST, REPLY_FIRST, TRUST_412, TRUST_202,
 * NO_WITHDRAW, NO_DELETE, NOT_FOUND_IS_GONE, ANY_5XX_IS_SWIFTS,
 * RESENT_IS_OVER, REFUSED_IS_IN_DOUBT, REFUSED_IS_5YZ and SILENT_IN_DOUBT each
 * put a fault into the program that must show.  -DWITHOUT_LOST and
 * WITHOUT_QUEUED_4YZ each take one window out of what must hold.
 *
 * This is assumed of the world; each option takes one away, and then an object
 * may stay that no line names:
 *
 *   LATE            a PUT which Swift itself has answered is over
 *   STALE_404       where HEAD or DELETE are answered 404 nothing is there,
 *                   on none of Swift's disks
 *   REFUSED_LEAVES  a PUT that was refused (4xx) has left nothing
 *
 * Not modelled: how long anything takes, who else writes to the container, and
 * the log in, which is one more way for a request not to be sent.
 */

#define ACCOUNTS 2
#ifndef TRIES
#define TRIES 2     /* retries = 1 */
#endif
#define NAMES TRIES /* a new one for each, at most */
#define DELETES 2

/* What is under a name; what was answered; what became of the content. */
mtype:content = { NOTHING, OURS, FOREIGN };
mtype:http = { OK, OTHER_ETAG, OTHER_2XX, CLASH, MISSING, REFUSED, BROKEN,
	GIVEN_UP, /* 5xx of a server in front, which waits no longer */
	NO_ANSWER, NOT_SENT };
mtype:inject = { INJECT_OK, INJECT_REFUSED, INJECT_FAILED, INJECT_IN_DOUBT };
mtype:verdict = { VERDICT_DONE, VERDICT_RETRY, VERDICT_WAIT, VERDICT_RENAME };
mtype:reply = { NONE, REPLY_2YZ, REPLY_4YZ, REPLY_5YZ };

/* ---- the world ---------------------------------------------------------- */

#define AT(i) object[(i) * NAMES + name[i]]
#define COMING(i) coming[(i) * NAMES + name[i]]
#define NAMED(i) named[(i) * NAMES + name[i]]

/* More than one is as many as another. */
#define ONE_MORE(n) ((n) == 0 -> 1 : 2)

mtype:content object[ACCOUNTS * NAMES] = NOTHING;
byte coming[ACCOUNTS * NAMES]; /* PUTs without an answer that go on */
bool named[ACCOUNTS * NAMES];  /* in a line in-doubt */
bool silent[ACCOUNTS]; /* a PUT of this name had no answer of Swift's */
bool left[ACCOUNTS];   /* the last DELETE failed, and nothing says it is gone */
bool forwarded, dot_in_doubt, died;
bool dot_lost;   /* the answer to it */
bool queued_4yz; /* forwarded, and the dot refused */
bool holds_believed;
mtype:http status;
mtype:reply objection = NONE; /* to the message: nothing of ours */
mtype:reply sent = NONE;

/* The power fails, or somebody kills -9: before each step that shows. */
inline may_die() {
	if
	:: true
	:: died = true; goto end
	fi
}

/* The message itself, rspamd or the server behind: for now, or for good. */
inline world_objects() {
	if
	:: objection = REPLY_4YZ
	:: objection = REPLY_5YZ
	fi
}

/* A line in-doubt; what it is for is not the program's own word. */
inline world_reads(i, cause) {
	d_step {
		holds_believed = (cause);
		assert(holds_believed);
		NAMED(i) = true;
		holds_believed = false
	}
}

/*
 * What went on without an answer of Swift's is done before the next request of
 * that name, or after all of them; if there is an object by then, it is refused
 * (412).
 */
inline world_catches_up(i) {
	do
	:: atomic { COMING(i) > 0 -> COMING(i)--;
		AT(i) = (AT(i) == NOTHING -> OURS : AT(i)) }
	:: break
	od
}

/* If-None-Match: *.  5yz, 202 and silence say nothing of what is there. */
inline world_put(i) {
	may_die();
	world_catches_up(i);
	if
	:: AT(i) != NOTHING -> status = CLASH
	:: AT(i) == NOTHING -> atomic {
		if
		:: AT(i) = OURS;
			if
			:: status = OK
			:: status = BROKEN
			:: status = GIVEN_UP
			:: status = NO_ANSWER
			fi
		:: AT(i) = FOREIGN;
			if
			:: status = OTHER_ETAG
			:: status = OTHER_2XX
			:: status = BROKEN
			:: status = NO_ANSWER
			fi
		:: status = OTHER_2XX
		:: status = CLASH /* a copy of what is deleted knows the name */
		:: status = REFUSED
#ifdef REFUSED_LEAVES
		:: AT(i) = OURS; status = REFUSED
#endif
		:: status = BROKEN
		:: status = NO_ANSWER
		:: status = NOT_SENT
		:: COMING(i) = ONE_MORE(COMING(i));
			if
			:: status = GIVEN_UP
			:: status = NO_ANSWER
			fi
#ifdef LATE
		:: COMING(i) = ONE_MORE(COMING(i)); status = BROKEN
#endif
		fi }
	:: status = REFUSED
	:: status = BROKEN
	:: status = NO_ANSWER
	:: status = NOT_SENT
	fi;
	silent[i] = silent[i] || status == GIVEN_UP || status == NO_ANSWER
}

#ifdef STALE_404
#define MAY_BE_MISSING(i) true
#else
#define MAY_BE_MISSING(i) (AT(i) == NOTHING)
#endif

inline world_head(i) {
	may_die();
	world_catches_up(i);
	if
	:: AT(i) == OURS -> status = OK
	:: AT(i) == FOREIGN -> status = OTHER_ETAG
	:: MAY_BE_MISSING(i) -> status = MISSING
	:: status = REFUSED
	:: status = BROKEN
	:: status = NO_ANSWER
	fi;
	left[i] = left[i] && status != MISSING
}

inline world_delete(i) {
	may_die();
	world_catches_up(i);
	if
	:: atomic { AT(i) != NOTHING -> AT(i) = NOTHING;
		if
		:: status = OK
		:: status = BROKEN
		:: status = NO_ANSWER
		fi }
	:: MAY_BE_MISSING(i) -> status = MISSING
	:: status = OTHER_2XX /* 202: it may be done one day */
	:: status = REFUSED
	:: status = BROKEN
	:: status = NO_ANSWER
	:: status = NOT_SENT
	fi;
	left[i] = status != OK && status != MISSING
}

/* The server behind, at the dot. */
inline world_dot() {
	may_die();
	if
	:: forwarded = true;
		if
		:: outcome = INJECT_OK
		:: dot_lost = true; outcome = INJECT_IN_DOUBT
		/* Postfix, where cleanup(8) is killed before it says so. */
		:: queued_4yz = true; objection = REPLY_4YZ;
			outcome = INJECT_REFUSED
		fi
	:: world_objects(); outcome = INJECT_REFUSED
	:: dot_lost = true; outcome = INJECT_IN_DOUBT
	:: outcome = INJECT_FAILED /* it had gone before the dot was sent */
	fi
}

/* ---- swift.c ------------------------------------------------------------ */

bool unheard[ACCOUNTS];
byte exists[ACCOUNTS], name[ACCOUNTS], tries;
mtype:verdict verdict;
bool stored, resent, once_more, gone, deleted;
byte deletes;

#ifdef NO_ETAG
#define IS_OURS(a) ((a) == OK || (a) == OTHER_ETAG)
#else
#define IS_OURS(a) ((a) == OK)
#endif

/*
 * Over a connection that turns out to be closed libcurl sends a request again
 * by itself: the first one may have been done, or go on.
 */
#ifdef RESENT_IS_OVER
#define MAY_COME false
#else
#define MAY_COME resent
#endif

inline try_store(i) {
	stored = false;
	resent = false;
	world_put(i);
	if
	:: status == NO_ANSWER -> resent = true; world_put(i)
	:: true
	fi;
	atomic {
#ifdef ANY_5XX_IS_SWIFTS
		unheard[i] = unheard[i] || MAY_COME || status == NO_ANSWER;
#else
		unheard[i] = unheard[i] || MAY_COME || status == NO_ANSWER ||
			status == GIVEN_UP;
#endif
		if
		:: status == OK || status == OTHER_ETAG ||
			status == OTHER_2XX || status == BROKEN ||
			status == GIVEN_UP || status == NO_ANSWER ->
			exists[i] = ONE_MORE(exists[i])
		:: else
		fi;
		if
		:: resent -> exists[i] = ONE_MORE(exists[i])
		:: else
		fi;
		resent = false
	}
	if
	:: IS_OURS(status) -> stored = true; verdict = VERDICT_DONE
	:: !IS_OURS(status) && status == OTHER_ETAG -> verdict = VERDICT_RENAME
#ifdef ANY_2XX
	:: status == OTHER_2XX -> stored = true; verdict = VERDICT_DONE
#else
	:: status == OTHER_2XX -> verdict = VERDICT_DONE
#endif
	:: status == REFUSED -> verdict = VERDICT_DONE
	:: status == REFUSED -> verdict = VERDICT_RETRY /* 408, 422, 499 */
	:: status == REFUSED -> verdict = VERDICT_WAIT /* 400, 401, 429, 498 */
	:: status == BROKEN || status == GIVEN_UP || status == NO_ANSWER ||
		status == NOT_SENT -> verdict = VERDICT_RETRY
	:: status == CLASH -> /* an earlier try of ours? */
		world_head(i);
		if
		:: IS_OURS(status) -> stored = true;
			exists[i] = exists[i] + (exists[i] == 0);
			verdict = VERDICT_DONE
#ifdef TRUST_412
		:: status == MISSING -> stored = true; verdict = VERDICT_DONE
#endif
		:: status == BROKEN || status == NO_ANSWER || status == REFUSED ->
			verdict = VERDICT_RETRY
		:: status == REFUSED -> verdict = VERDICT_WAIT
		:: !IS_OURS(status) && status != BROKEN &&
			status != NO_ANSWER -> verdict = VERDICT_RENAME
		fi
	fi
}

/*
 * Tries, time and the client's patience come to an end.  In C a 401 and a 400
 * are tried again only once, and 429 and 498 until the deadline: not counted.
 */
inline again(count, most) {
	if
	:: (verdict == VERDICT_RETRY || verdict == VERDICT_RENAME) &&
		count < most -> count++; once_more = true
	:: verdict == VERDICT_WAIT -> once_more = true
	:: once_more = false
	fi
}

/* Who may not delete may look. */
inline swift_delete(i) {
	deletes = 1;
	do
	:: world_delete(i);
		if
		:: status == OK || status == OTHER_2XX || status == MISSING ||
			status == REFUSED -> verdict = VERDICT_DONE
		:: status == REFUSED -> verdict = VERDICT_WAIT
		:: status == BROKEN || status == NO_ANSWER ||
			status == NOT_SENT || status == REFUSED ->
			verdict = VERDICT_RETRY
		fi;
		again(deletes, DELETES);
		if
		:: once_more
		:: !once_more -> break
		fi
	od;
	atomic {
		deleted = (status == OK);
#ifdef TRUST_202
		gone = (deleted || status == OTHER_2XX || status == MISSING)
#else
		gone = (deleted || status == MISSING)
#endif
	}
	if
	:: gone
	:: !gone -> world_head(i); gone = (status == MISSING)
	fi
}

inline swift_withdraw(i) {
	if
#ifndef NO_WITHDRAW
	:: exists[i] > 0 ->
#ifndef NO_DELETE
		swift_delete(i);
#endif
#ifndef NOT_FOUND_IS_GONE
		gone = gone && (!unheard[i] || (deleted && exists[i] == 1));
#endif
		if
		:: gone
		:: !gone -> world_reads(i, silent[i] || left[i])
		fi;
		d_step {
			silent[i] = false;
			left[i] = false;
			exists[i] = 0;
			unheard[i] = false;
			gone = false;
			deleted = false;
			deletes = 0;
			status = 0;
			verdict = 0;
			once_more = false
		}
#endif
	:: else
	fi
}

inline swift_store(i) {
	tries = 1;
	do
	:: try_store(i);
		again(tries, TRIES);
		if
		:: !once_more -> break
		:: once_more && verdict != VERDICT_RENAME
		:: once_more && verdict == VERDICT_RENAME ->
			swift_withdraw(i);
			/* What is named may be there, or not. */
			d_step {
				if
				:: NAMED(i) -> AT(i) = NOTHING; COMING(i) = 0
				:: else
				fi;
				name[i]++
			}
		fi
	od;
	/* Nobody asks for these again; that is the same state then. */
	atomic {
		tries = 0;
		status = 0;
		verdict = 0;
		once_more = false
	}
}

/* ---- deliver.c ---------------------------------------------------------- */

bool to[ACCOUNTS], to_others;
mtype:inject outcome;
mtype:reply r = NONE;
byte i, w;

inline withdraw() {
	w = 0;
	do
	:: w < ACCOUNTS -> swift_withdraw(w); w++
	:: else -> w = 0; break
	od
}

inline refuse(reply) {
	r = reply;
	withdraw()
}

/* The size, a bare LF, the spool. */
inline refuse_message() {
	if
	:: true
	:: world_objects(); refuse(objection)
	fi
}

/* What rspamd says of it. */
inline refuse_verdict() {
	if
	:: true
	:: world_objects(); refuse(objection)
	fi
}

/* The first account alone is as the second alone. */
inline add_places() {
	if
	:: to[0] = true
	:: to[0] = true; to[1] = true
	:: to_others = true
	:: to_others = true; to[0] = true
	:: to_others = true; to[0] = true; to[1] = true
	fi
}

inline refuse_store() {
#ifdef REFUSED_IS_5YZ
	r = REPLY_5YZ;
#else
	r = REPLY_4YZ;
#endif
	withdraw()
}

/* The client is gone, or the deadline has passed. */
inline refuse_late() {
	if
	:: true
	:: refuse(REPLY_4YZ)
	fi
}

inline store_all() {
	if
	:: true
	:: to[0] || to[1] -> refuse(REPLY_4YZ) /* no memory */
	fi;
	i = 0;
	do
	:: r != NONE -> break
	:: r == NONE && i < ACCOUNTS && !to[i] -> i++
	:: r == NONE && i < ACCOUNTS && to[i] ->
		refuse_late();
		if
		:: r != NONE -> break
		:: else
		fi;
		swift_store(i);
		if
		:: !stored -> refuse_store(); break
		:: else -> i++
		fi
	:: else -> break
	od
}

inline stay_in_doubt() {
	dot_in_doubt = true;
	i = 0;
	do
	:: i < ACCOUNTS && to[i] -> world_reads(i, dot_lost); i++
	:: i < ACCOUNTS && !to[i] -> i++
	:: else -> break
	od;
	r = REPLY_4YZ
}

inline refuse_inject() {
	if
	:: outcome == INJECT_OK
	:: outcome == INJECT_IN_DOUBT -> stay_in_doubt()
#ifdef REFUSED_IS_IN_DOUBT
	:: outcome == INJECT_REFUSED -> stay_in_doubt()
#else
	:: outcome == INJECT_REFUSED -> refuse(objection)
#endif
	:: outcome == INJECT_FAILED -> refuse(REPLY_4YZ)
	fi
}

inline inject_content() {
	may_die();
	if
	:: outcome = INJECT_OK
	:: world_objects(); outcome = INJECT_REFUSED
	:: outcome = INJECT_FAILED
	fi
}

inline inject_commit() {
	world_dot()
}

/* Without a dot the server behind drops what it has. */
inline inject_end() {
	may_die()
}

inline accept_all() {
	r = REPLY_2YZ
}

inline deliver_commit() {
	refuse_message();
	if
	:: r == NONE -> refuse_verdict()
	:: else
	fi;
	if
	:: r == NONE ->
		add_places();
		if
		:: true
		:: refuse(REPLY_4YZ) /* no memory */
		fi
	:: else
	fi;
	if
	:: r == NONE -> refuse_late()
	:: else
	fi;
	if
	:: r == NONE && to_others -> inject_content(); refuse_inject()
	:: else
	fi;
#ifdef DOT_FIRST
	if
	:: r == NONE && to_others -> inject_commit(); refuse_inject()
	:: else
	fi;
#endif
	if
	:: r == NONE -> store_all()
	:: else
	fi;
#ifndef DOT_FIRST
	if
	:: r == NONE && to_others -> refuse_late()
	:: else
	fi;
	if
	:: r == NONE && to_others -> inject_commit(); refuse_inject()
	:: else
	fi;
#endif
	inject_end();
	if
	:: r == NONE -> accept_all()
	:: else
	fi
}

/* ---- session.c ---------------------------------------------------------- */

inline send_reply(reply) {
	may_die();
	sent = reply
}

inline answer(reply) {
	send_reply(reply)
}

inline receive() {
#ifdef REPLY_FIRST
	answer(REPLY_2YZ);
	deliver_commit()
#else
	deliver_commit();
#ifdef SILENT_IN_DOUBT
	if
	:: dot_in_doubt
	:: else -> answer(r)
	fi
#else
	answer(r)
#endif
#endif
}

/* ---- what must hold ----------------------------------------------------- */

#define STORED(i) (!to[i] || AT(i) == OURS)
#define STAYS(i, n) (object[(i) * NAMES + n] != NOTHING || \
	coming[(i) * NAMES + n] > 0)
#define PROMISED(i, n) (sent == REPLY_2YZ && name[i] == n)

/* The two windows in which what was refused is forwarded. */
#ifdef WITHOUT_LOST
#define LOST false
#else
#define LOST dot_in_doubt
#endif
#ifdef WITHOUT_QUEUED_4YZ
#define QUEUED_4YZ false
#else
#define QUEUED_4YZ queued_4yz
#endif

bool holds_stored, holds_forwarded, holds_named, holds_replied, holds_permanent;

init {
	byte n;

	receive();
end:	skip;
	d_step {
		holds_stored = sent != REPLY_2YZ || (STORED(0) && STORED(1) &&
			(!to_others || forwarded));
		assert(holds_stored);
		holds_forwarded = !(forwarded &&
			(sent == REPLY_4YZ || sent == REPLY_5YZ)) ||
			LOST || QUEUED_4YZ;
		assert(holds_forwarded);
		holds_believed = !dot_in_doubt || dot_lost;
		assert(holds_believed);
		holds_replied = died || sent != NONE;
		assert(holds_replied);
		holds_permanent = sent != REPLY_5YZ || objection == REPLY_5YZ;
		assert(holds_permanent);
		i = 0;
		do
		:: i < ACCOUNTS ->
			n = 0;
			do
			:: n < NAMES ->
				holds_named = died || !STAYS(i, n) ||
					PROMISED(i, n) || named[i * NAMES + n];
				assert(holds_named);
				n++
			:: else -> break
			od;
			i++
		:: else -> break
		od
	}
}
