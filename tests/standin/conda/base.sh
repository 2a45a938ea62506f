#!/bin/bash
# In place of repo2docker's install-base-env.bash: the environment that it makes with conda, made with pip. For conda's and
# mamba's part in later steps, and at a session's start (repo2docker's activate-conda.sh), conda.py stands in.
set -euo pipefail
cd "$(dirname "$0")"

mkdir -p "$CONDA_DIR/bin" "$CONDA_DIR/etc/profile.d"
install -m 0755 conda.py "$MAMBA_EXE"
install -m 0755 conda.py /usr/local/bin/micromamba
: >"$CONDA_DIR/etc/profile.d/conda.sh"

python3 -m venv --copies "$NB_PYTHON_PREFIX"
# What the environment.yml beside install-base-env.bash names.
"$NB_PYTHON_PREFIX/bin/python" -m pip install --quiet --no-cache-dir \
    'ipywidgets==8.*' 'jupyter-resource-usage==1.*' 'jupyter_server==2.*' 'jupyterhub==5.*' 'jupyterlab==4.*' 'notebook==7.*'
chown -R "$NB_USER:$NB_USER" "$CONDA_DIR"
