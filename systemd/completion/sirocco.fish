# Completion of sirocco's commands and options in fish, from `sirocco COMMAND --help`.
function __sirocco_words --description 'What may follow on the command line'
    set -l command
    for word in (commandline -opc)[2..]
        string match -q -- '-*' $word; and break
        set -a command $word
    end
    set -l help (sirocco $command --help 2>/dev/null)
    while test $status -ne 0
        test (count $command) -gt 0; or return
        set -e command[-1]
        set help (sirocco $command --help 2>/dev/null)
    end
    printf '%s\n' $help | sed -nE '/^Options:/,/^Subcommands:/s/^  (-[^ ,]*,)?(--[a-z0-9-]+).*/\2/p'
    printf '%s\n' $help | sed -nE '/^Subcommands:/,$s/^  ([a-z]+)  +(.*)/\1\t\2/p'
end
complete -c sirocco -a '(__sirocco_words)'
