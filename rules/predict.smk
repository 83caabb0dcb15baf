# Masks of unlabeled images: of the K checkpoints for the stability score, and the pseudo-labels. And what a frozen
# encoder makes of images, which all that reads it shares. With `shards: N` the images are spread over N jobs, whose parts
# are joined; the result does not depend on N.

PREDICT = f"--device {RUNTIME.device} --gpus {RUNTIME.predict.gpu} --threads {RUNTIME.predict.threads}"

for kind, doing, joining in (("predict", "Predicting", "join_shards"), ("encode", "Encoding", "join_encoded")):

    PART = f"{STAGES}/{kind}/{{stage}}/{disk.part_of_store('{shard}', '{shards}')}"

    if RUNTIME.shards == 1:

        rule:
            name:
                kind
            input:
                unpack(GRAPH.reads(kind)),
            output:
                **GRAPH.writes(kind),
            log:
                f"{LOGS}/{kind}/{{stage}}.log",
            priority: LONG_CHAIN
            conda:
                "../envs/environment.yaml"
            threads: RUNTIME.predict.threads + RUNTIME.predict.workers
            resources:
                **computes(RUNTIME.predict),
            params:
                kind=kind,
                folder=subpath(output[0], parent=True),
                options=f"{PREDICT} {SAVING}",
            message:
                f"{doing} {{wildcards.stage}}"
            shell:
                "stpp {params.kind} {params.folder:q} {params.options} >{log:q} 2>&1"

    else:

        rule:
            name:
                f"{kind}_shard"
            input:
                unpack(GRAPH.reads(kind)),
            output:
                part=temp(PART),
            log:
                f"{LOGS}/{kind}/{{stage}}-{{shard}}-of-{{shards}}.log",
            priority: LONG_CHAIN
            conda:
                "../envs/environment.yaml"
            threads: RUNTIME.predict.threads + RUNTIME.predict.workers
            resources:
                **computes(RUNTIME.predict),
            params:
                kind=kind,
                folder=subpath(output[0], ancestor=2),
                options=f"{PREDICT} {SAVING}",
            message:
                f"{doing} {{wildcards.stage}}, part {{wildcards.shard}} of {{wildcards.shards}}"
            shell:
                "stpp {params.kind} {params.folder:q} {params.options}"
                " --shard {wildcards.shard} --shards {wildcards.shards} >{log:q} 2>&1"

        rule:
            name:
                joining
            input:
                parts=expand(PART, shard=range(RUNTIME.shards), shards=RUNTIME.shards, allow_missing=True),
            output:
                **GRAPH.writes(kind),
            log:
                f"{LOGS}/{kind}/{{stage}}.log",
            priority: LONG_CHAIN
            conda:
                "../envs/environment.yaml"
            resources:
                **asks(),
            params:
                kind=kind,
                folder=subpath(output[0], parent=True),
                shards=RUNTIME.shards,
            message:
                "Joining the parts of {wildcards.stage}"
            shell:
                "stpp {params.kind} {params.folder:q} --join --shards {params.shards} >{log:q} 2>&1"
