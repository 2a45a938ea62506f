# zsh of a terminal of the course: after the learner's own file, a prompt for the lab, and completion.
ZDOTDIR=$LABKIT_ZDOTDIR
[[ ! -f $ZDOTDIR/.zshrc ]] || . $ZDOTDIR/.zshrc
PROMPT="(lab) $PROMPT"
eval "$(labkit completion zsh 2>/dev/null)"
