#!/usr/bin/env bash
# One command line on a Ray cluster over the nodes of a Slurm job, gone when it has ended:
#   sbatch --nodes=4 deploy/slurm.sh compare naive "rehearsal(500)" --seeds 10
# Queued again, it goes on from its checkpoints. PERDURE_STORAGE is a folder that all nodes see.
#SBATCH --job-name=perdure
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=B:INT@120
#SBATCH --requeue
set -euo pipefail

[ "$#" -gt 0 ] || { echo 'expected a command, as: sbatch deploy/slurm.sh compare naive "rehearsal(500)"' >&2; exit 2; }
export PERDURE_STORAGE="${PERDURE_STORAGE:-$SLURM_SUBMIT_DIR/perdure-runs}"
export RAY_USAGE_STATS_ENABLED=0
port=$((20000 + SLURM_JOB_ID % 10000))  # two jobs may share a node

# A token of this job's own, in a file that nobody else can read; srun's environment is no place for it.
umask 077
mkdir -p "$PERDURE_STORAGE"
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH="$PERDURE_STORAGE/.token-$SLURM_JOB_ID"
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$RAY_AUTH_TOKEN_PATH"

mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${nodes[0]}"
address="$head:$port"
started=()

finish() {
    trap - EXIT INT TERM
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait || true
    rm -f "$RAY_AUTH_TOKEN_PATH"
}
trap finish EXIT

on() {  # a Ray process on one node, in the foreground of its step, so that Slurm ends it with the job
    local node="$1"; shift
    srun --nodes=1 --ntasks=1 --overlap --nodelist="$node" \
        ray start --block --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --temp-dir="/tmp/ray-$SLURM_JOB_ID" --disable-usage-stats "$@" &
    started+=("$!")
}

on "$head" --head --node-ip-address="$head" --port="$port" --dashboard-host=127.0.0.1 --ray-client-server-port=$((port + 10000))
for _ in $(seq 60); do
    if srun --nodes=1 --ntasks=1 --overlap --nodelist="$head" ray health-check --address="$address" 2>/dev/null; then break; fi
    sleep 2
done
for node in "${nodes[@]:1}"; do on "$node" --address="$address"; done

# On the head, from where --address auto finds the cluster; Slurm's warning before the end becomes Ctrl-C.
srun --disable-status --nodes=1 --ntasks=1 --overlap --nodelist="$head" python -m perdure "$@" --address "$address" &
run="$!"
trap 'kill -INT "$run" 2>/dev/null || true' INT TERM
code=0
wait "$run" || code="$?"
while kill -0 "$run" 2>/dev/null; do code=0; wait "$run" || code="$?"; done
exit "$code"
