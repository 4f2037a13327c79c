# fish completion of tandemctl

function __tandemctl_devices
	tandemctl status --json 2>/dev/null | string match -ar '\{"name":"([a-z0-9_-]+)","roles"' --groups-only
end

function __tandemctl_requests
	tandemctl jobs --json 2>/dev/null | string match -ar '"request":"([^"]+)"' --groups-only | sort -u
end

set -l commands status top events logs workers jobs queues sessions requests request backends devices keys stats restart \
	drain reset reload upgrade cancel wait-ready check doctor explain bench key init help
set -l none "not __fish_seen_subcommand_from $commands"

complete -c tandemctl -f
complete -c tandemctl -s R -l rundir -x -a '(__fish_complete_directories)' -d 'run folder of tandemd'
complete -c tandemctl -s h -l help -d 'help'
complete -c tandemctl -n $none -s V -l version -d 'the version'
complete -c tandemctl -n $none -a status -d 'tandemd, its devices and requests'
complete -c tandemctl -n $none -a top -d 'all of it at a glance, kept fresh'
complete -c tandemctl -n $none -a events -d 'each step of workers and requests as it happens'
complete -c tandemctl -n $none -a logs -d 'what happened, of one request or all'
complete -c tandemctl -n $none -a workers -d 'processes, heartbeats, restarts'
complete -c tandemctl -n $none -a jobs -d 'work that runs or waits'
complete -c tandemctl -n $none -a queues -d 'what waits for each device'
complete -c tandemctl -n $none -a sessions -d 'conversations: tokens, what is warm, broken prefixes'
complete -c tandemctl -n $none -a requests -d 'requests under way and the last ones'
complete -c tandemctl -n $none -a request -d 'one of them, step by step'
complete -c tandemctl -n $none -a backends -d 'backends and what they serve'
complete -c tandemctl -n $none -a devices -d 'GPUs: memory, load, temperature'
complete -c tandemctl -n $none -a keys -d "clients' keys by name, what they have under way"
complete -c tandemctl -n $none -a stats -d 'counters, and how long things took'
complete -c tandemctl -n $none -a restart -d 'new workers without a pause'
complete -c tandemctl -n $none -a drain -d 'give a device no new work, wait for its last job'
complete -c tandemctl -n $none -a reset -d 'start a failed or drained device afresh'
complete -c tandemctl -n $none -a reload -d 'read the configuration again'
complete -c tandemctl -n $none -a upgrade -d 'a new tandemd takes over, streams go on'
complete -c tandemctl -n $none -a cancel -d "end a client's request"
complete -c tandemctl -n $none -a wait-ready -d 'wait until the devices are ready'
complete -c tandemctl -n $none -a check -d 'check a configuration'
complete -c tandemctl -n $none -a doctor -d 'what costs time or stands open, and what to do'
complete -c tandemctl -n $none -a explain -d 'what would be done with a request, and why'
complete -c tandemctl -n $none -a bench -d 'measure a device'
complete -c tandemctl -n $none -a key -d 'make a key for a client'
complete -c tandemctl -n $none -a init -d 'write a configuration that fits this machine'
complete -c tandemctl -n $none -a help -d 'what is said of a command'

complete -c tandemctl -n '__fish_seen_subcommand_from status events workers jobs queues sessions requests request backends devices keys stats restart drain reset reload upgrade cancel wait-ready doctor' -l json -d 'the answer as JSON'
complete -c tandemctl -n '__fish_seen_subcommand_from restart drain reset reload upgrade wait-ready' -l timeout -x -d 'wait no longer'
complete -c tandemctl -n '__fish_seen_subcommand_from restart' -l backend -d 'the backends that tandem started as well'
complete -c tandemctl -n '__fish_seen_subcommand_from events' -l count -x -d 'end after N of them'
complete -c tandemctl -n '__fish_seen_subcommand_from top' -l once -d 'once, also on a terminal'
complete -c tandemctl -n '__fish_seen_subcommand_from restart reset' -a 'all (__tandemctl_devices)'
complete -c tandemctl -n '__fish_seen_subcommand_from drain' -a '(__tandemctl_devices)'
complete -c tandemctl -n '__fish_seen_subcommand_from cancel request' -a '(__tandemctl_requests)'
complete -c tandemctl -n '__fish_seen_subcommand_from check' -F
complete -c tandemctl -n '__fish_seen_subcommand_from doctor' -F
complete -c tandemctl -n '__fish_seen_subcommand_from explain' -F
complete -c tandemctl -n '__fish_seen_subcommand_from explain' -s c -l config -rF -d 'the configuration'
complete -c tandemctl -n '__fish_seen_subcommand_from explain' -l window -x -d "the main device's window"
complete -c tandemctl -n '__fish_seen_subcommand_from explain' -l dialect -x -a 'ollama openai anthropic responses' -d 'of the request'
complete -c tandemctl -n '__fish_seen_subcommand_from explain' -l json -d 'the answer as JSON'
complete -c tandemctl -n '__fish_seen_subcommand_from explain' -l sent -d 'the body that the main device would get'
complete -c tandemctl -n '__fish_seen_subcommand_from logs' -a '(__tandemctl_requests)'
complete -c tandemctl -n '__fish_seen_subcommand_from logs' -s f -l follow -d 'what comes, too'
complete -c tandemctl -n '__fish_seen_subcommand_from logs' -s n -l lines -x -d 'of what is kept'
complete -c tandemctl -n '__fish_seen_subcommand_from logs' -l json -d 'each as JSON'
complete -c tandemctl -n '__fish_seen_subcommand_from bench' -l device -x -a '(__tandemctl_devices)' -d 'which one'
complete -c tandemctl -n '__fish_seen_subcommand_from bench' -l seconds -x -d 'how long at most'
complete -c tandemctl -n '__fish_seen_subcommand_from bench' -l reload -d 'a reload, too'
complete -c tandemctl -n '__fish_seen_subcommand_from bench' -l json -d 'the answer as JSON'
complete -c tandemctl -n '__fish_seen_subcommand_from key' -a add
complete -c tandemctl -n '__fish_seen_subcommand_from key' -s f -l file -rF -d 'where its hash goes'
complete -c tandemctl -n '__fish_seen_subcommand_from key' -l requests -x -d 'so many requests at once'
complete -c tandemctl -n '__fish_seen_subcommand_from key' -l class -x -a 'interactive agent idle' -d 'whatever the client says'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -s o -l output -rF -d 'where to write'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l force -d 'overwrite the file'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l port -x -d 'where clients connect'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l run-dir -x -a '(__fish_complete_directories)'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l ollama -x -d 'look for Ollama there only'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l no-ollama -d 'do not look for Ollama'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l engine -rF -d 'a llama-server to start'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l engine-lib -x -a '(__fish_complete_directories)'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l engine-devices -x -d 'what its --list-devices prints'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l model-file -rF -d 'the model that both roles use'
complete -c tandemctl -n '__fish_seen_subcommand_from init' -l model-name -x -d 'the name that clients know it by'
