# The shell of a terminal in the course's JupyterLab: sh start.sh DIRECTORY LABKIT…
# `labkit env` prints the variables by which kubectl, crictl and others find the node, or says why it cannot. The learner's shell
# reads her own files first. It is no login shell: what such a shell reads sets PATH anew (/etc/profile on Debian).
trap : INT
here=$1
shift
eval "$("$@" env)"
shell=${SHELL:-/bin/sh}
case ${shell##*/} in
bash) exec "$shell" --rcfile "$here/bashrc" ;;
zsh) LABKIT_ZDOTDIR=${ZDOTDIR:-$HOME} ZDOTDIR=$here exec "$shell" ;;
fish) exec "$shell" -C "source '$here/config.fish'" ;;
*) exec "$shell" ;;
esac
