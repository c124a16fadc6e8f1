#!/bin/sh
# Makes the environments of the peers that benchmarks/serve_load.py measures: serve_load_peers.sh FOLDER [PYTHON]
# torch comes first, as its CPU build: point pip at the index you take it from.
set -eu
folder=$1
python=${2:-python3}
for name in plain litserve infinity; do
  "$python" -m venv "$folder/$name"
  "$folder/$name/bin/pip" install --quiet torch==2.13.0
done
"$folder/plain/bin/pip" install --quiet transformers==5.23.0 fastapi==0.165.0 "uvicorn[standard]==0.54.0"
"$folder/litserve/bin/pip" install --quiet transformers==5.23.0 litserve==0.2.19
# infinity 0.0.78 needs a transformers before 5 (4.57.6) and takes the versions that go with it.
"$folder/infinity/bin/pip" install --quiet "infinity-emb[torch,server]==0.0.78"
