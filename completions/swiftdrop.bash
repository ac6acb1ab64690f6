# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash
#
# bash completion for swiftdrop(8) and swiftq(1); needs nothing but bash. The
# functions share cur, prev and command, which are local to those that
# "complete" names.

# The accounts of the configuration that the line names.
_swiftdrop_accounts()
{
	local file=/etc/swiftdrop.ini i

	for ((i = 1; i < COMP_CWORD; i++)); do
		if [[ ${COMP_WORDS[i]} == @(-c|--config) ]]; then
			[[ ${COMP_WORDS[i + 1]} == = ]] && ((i++))
			file=${COMP_WORDS[i + 1]/#\~/$HOME}
		fi
	done
	sed -n '/^\[SMTP]/d; s/^\[\([^]]*\)].*/\1/p' "$file" 2> /dev/null
}

# What is at the cursor, and which of the commands $* comes before it.
_swiftdrop_line()
{
	local word

	cur=${COMP_WORDS[COMP_CWORD]}
	prev=${COMP_WORDS[COMP_CWORD - 1]}
	# To readline "--config=FILE" is three words.
	if [[ $cur == = ]]; then
		cur=''
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	command=''
	for word in "${COMP_WORDS[@]:1:COMP_CWORD - 1}"; do
		if [[ " $* " == *" $word "* ]]; then
			command=$word
			return
		fi
	done
}

_swiftdrop_words()
{
	mapfile -t COMPREPLY < <(compgen -W "$*" -- "$cur")
}

_swiftdrop_files()
{
	compopt -o filenames
	mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

_swiftdrop()
{
	local cur prev command

	_swiftdrop_line check login config
	case $prev in
	-c|--config)
		_swiftdrop_files
		return ;;
	esac
	case $command,$cur in
	check,-*)	_swiftdrop_words --write --write= ;;
	login,*)	_swiftdrop_words "$(_swiftdrop_accounts)" ;;
	,-*)		_swiftdrop_words -c --config --help --version ;;
	,*)		_swiftdrop_words check login config ;;
	esac
}

_swiftq_options()
{
	case $1 in
	'')	echo --version ;;
	status)	echo --prometheus ;;
	find)	echo --message-id --from --to --queue-id --since --text ;;
	show)	echo --output ;;
	take)	echo --output --dedupe ;;
	finish)	echo --after --claim --note --dedupe ;;
	retry)	echo --after --note --all-failed ;;
	run)	echo --once --max-tries --retry-delay --poll --dedupe ;;
	recover) echo --older-than ;;
	purge)	echo --older-than --dry-run ;;
	esac
}

_swiftq_run()
{
	if [[ $cur == */* || " ${COMP_WORDS[*]:0:COMP_CWORD - 1} " == *' -- '* ]]
	then
		_swiftdrop_files
	else
		mapfile -t COMPREPLY < <(compgen -c -- "$cur")
	fi
}

_swiftq()
{
	local cur prev command
	local common='-c --config --account --lock --lock-ttl --json --help'

	_swiftdrop_line list status find show take finish retry run recover purge
	case $prev in
	-c|--config|--output)
		_swiftdrop_files
		return ;;
	--account)
		_swiftdrop_words "$(_swiftdrop_accounts)"
		return ;;
	--lock)
		_swiftdrop_words flock: redis:// rediss:// unix://
		return ;;
	--lock-ttl|--after|--older-than|--since|--retry-delay|--poll|--max-tries)
		return ;;
	--message-id|--from|--to|--queue-id|--claim|--note)
		return ;;
	esac
	case $command,$cur in
	*,-*)		_swiftdrop_words "$common $(_swiftq_options "$command")" ;;
	,*)		_swiftdrop_words list status find show take finish retry \
			    run recover purge ;;
	list,*)		_swiftdrop_words cur processing retry failed 'done' ;;
	finish,*)	_swiftdrop_words 'done' failed retry ;;
	purge,*)	_swiftdrop_words 'done' failed fingerprints ;;
	run,*)		_swiftq_run ;;
	esac
}

complete -F _swiftdrop swiftdrop
complete -F _swiftq swiftq
