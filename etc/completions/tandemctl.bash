# bash completion of tandemctl

_tandemctl_devices() {
	tandemctl status --json 2>/dev/null |
		grep -oE '\{"name":"[a-z0-9_-]+","roles"' | cut -d'"' -f4
}

_tandemctl_requests() {
	tandemctl jobs --json 2>/dev/null | grep -oE '"request":"[^"]+"' | cut -d'"' -f4 | sort -u
}

_tandemctl() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} command='' i
	local commands='status top events logs workers jobs queues sessions requests request backends devices keys stats restart
		drain reset reload upgrade cancel wait-ready check doctor explain bench key init help'
	local options=''
	for ((i = 1; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		-R | --rundir | --timeout | --count) ((i++)) ;;
		-*) ;;
		*)
			command=${COMP_WORDS[i]}
			break
			;;
		esac
	done
	case $prev in
	-R | --rundir | --run-dir | --engine-lib)
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	-o | --output | --engine | --model-file)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--dialect)
		mapfile -t COMPREPLY < <(compgen -W 'ollama openai anthropic responses' -- "$cur")
		return
		;;
	--class)
		mapfile -t COMPREPLY < <(compgen -W 'interactive agent idle' -- "$cur")
		return
		;;
	-c | --config | -f | --file)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	--device)
		mapfile -t COMPREPLY < <(compgen -W "$(_tandemctl_devices)" -- "$cur")
		return
		;;
	--window | --timeout | --count | --seconds | --lines | --port | --requests | --ollama | --engine-devices | --model-name) return ;;
	esac
	case $command in
	'') options="$commands --rundir --json --help --version" ;;
	help) options=$commands ;;
	status | workers | jobs | queues | sessions | requests | backends | devices | keys | stats) options='--json --rundir' ;;
	top) options='--once --rundir' ;;
	events) options='--json --count --rundir' ;;
	logs) options="$(_tandemctl_requests) --follow --lines --json --rundir" ;;
	restart) options="all $(_tandemctl_devices) --backend --timeout --json --rundir" ;;
	reset) options="all $(_tandemctl_devices) --timeout --json --rundir" ;;
	drain) options="$(_tandemctl_devices) --timeout --json --rundir" ;;
	reload | upgrade | wait-ready) options='--timeout --json --rundir' ;;
	cancel | request) options="$(_tandemctl_requests) --json --rundir" ;;
	doctor)
		mapfile -t COMPREPLY < <(compgen -f -W '--json --rundir' -- "$cur")
		return
		;;
	check)
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	explain)
		mapfile -t COMPREPLY < <(compgen -f -W '--config --window --dialect --json --sent' -- "$cur")
		return
		;;
	bench) options='--device --seconds --reload --json --rundir' ;;
	key) options='add --file --requests --class' ;;
	init)
		options='--output --force --port --run-dir --ollama --no-ollama --engine --engine-lib
			--engine-devices --model-file --model-name'
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
}

complete -F _tandemctl tandemctl
