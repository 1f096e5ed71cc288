#compdef sirocco
# Completion of sirocco's commands and options in zsh, from `sirocco COMMAND --help`.
local -a command entries
local help index
for ((index = 2; index < CURRENT; ++index)); do
  [[ $words[index] == -* ]] && break
  command+=($words[index])
done
until help=$(sirocco $command --help 2>/dev/null); do
  (( $#command )) || return 1
  shift -p command
done
if [[ $PREFIX == -* ]]; then
  entries=(${(f)"$(sed -nE '/^Options:/,/^Subcommands:/s/^  (-[^ ,]*,)?(--[a-z0-9-]+).*/\2/p' <<<$help)"})
else
  entries=(${(f)"$(sed -nE '/^Subcommands:/,$s/^  ([a-z]+)  +(.*)/\1:\2/p' <<<$help)"})
fi
_describe sirocco entries || _files
