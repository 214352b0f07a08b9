#!/usr/bin/env bash
# Builds the addon of @tensorflow/tfjs-node-gpu against the libtensorflow of a Python package, for the engine `tensorflow`.
# use: runtime/tensorflow.sh FOLDER [PACKAGE]
# PACKAGE: tensorflow-cpu (the default), or for an NVIDIA GPU 'tensorflow[and-cuda]'. Linux; needs Node, npm, pip, make and g++.
# docs/engines.md says what was tried.
set -euo pipefail
tfjs=4.22.0 tensorflow=2.21.0 gyp=12.4.0

mkdir -p "${1:?name a folder for the build}"
folder=$(cd "$1" && pwd) library=${2:-tensorflow-cpu}
package=$folder/node_modules/@tensorflow/tfjs-node-gpu
cd "$folder"

# The install script of the package would download an addon for an old libtensorflow.
[ -f package.json ] || echo '{ "private": true }' > package.json
npm install --ignore-scripts --no-audit --no-fund "@tensorflow/tfjs-node-gpu@$tfjs" "node-gyp@$gyp"

# Only the CUDA libraries are needed of what TensorFlow depends on.
case $library in *cuda*) dependencies=() ;; *) dependencies=(--no-deps) ;; esac
python3 -m pip install "${dependencies[@]}" --upgrade --target python "$library==$tensorflow"

# The addon looks for libtensorflow in deps/lib, and libtensorflow for CUDA in folders beside its own: hence links to the folder,
# and not to the files in it.
mkdir -p "$package/deps"
ln -sfn "$folder/python/tensorflow" "$package/deps/lib"
ln -sfn "$folder/python/tensorflow/include" "$package/deps/include"
ln -sf libtensorflow_cc.so.2 python/tensorflow/libtensorflow.so
ln -sf libtensorflow_framework.so.2 python/tensorflow/libtensorflow_framework.so

# Where Node's headers are not installed beside it, node-gyp downloads them.
node=$(node -p 'require("node:path").resolve(process.execPath, "../..")')
headers=()
[ ! -f "$node/include/node/node_api.h" ] || headers=("--nodedir=$node")
cd "$package"
"$folder/node_modules/.bin/node-gyp" rebuild "${headers[@]}" \
  --module_name=tfjs_binding --module_path="$package/lib/napi-v8" --napi_build_version=8

echo "built; for yoco to find it: export YOCO_TENSORFLOW='$folder'"
