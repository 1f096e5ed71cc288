# Completion of sirocco's commands and options in bash. It asks `sirocco COMMAND --help`, so that it never differs from the program.
_sirocco() {
  local current=${COMP_WORDS[COMP_CWORD]} command=() index help words
  # The commands that were typed so far: sirocco, or sirocco model fit.
  for ((index = 1; index < COMP_CWORD; ++index)); do
    [[ ${COMP_WORDS[index]} == -* ]] && break
    command+=("${COMP_WORDS[index]}")
  done
  # An argument that is no command ends the list: ask for as many as are some.
  while ! help=$(sirocco "${command[@]}" --help 2>/dev/null); do
    ((${#command[@]} > 0)) || return 0
    unset 'command[-1]'
  done
  if [[ $current == -* ]]; then
    words=$(sed -nE '/^Options:/,/^Subcommands:/s/^  (-[^ ,]*,)?(--[a-z0-9-]+).*/\2/p' <<<"$help")
  else
    words=$(sed -nE '/^Subcommands:/,$s/^  ([a-z]+)  .*/\1/p' <<<"$help")
  fi
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
# Where nothing of it fits, names of files: most arguments are some.
complete -o bashdefault -o default -F _sirocco sirocco
