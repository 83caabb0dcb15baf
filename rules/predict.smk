# Masks of unlabeled images: of the K checkpoints for the stability score, and the pseudo-labels. With `shards: N` the
# images are spread over N jobs, whose parts are joined; the result does not depend on N.

PREDICT = f"--device {RUNTIME.device} --gpus {RUNTIME.predict.gpu} --threads {RUNTIME.predict.threads}"
PART = f"{STAGES}/predict/{{stage}}/{disk.part_of_masks('{shard}', '{shards}')}"

if RUNTIME.shards == 1:

    rule predict:
        input:
            unpack(GRAPH.reads("predict")),
        output:
            **GRAPH.writes("predict"),
        log:
            f"{LOGS}/predict/{{stage}}.log",
        benchmark:
            f"{LOGS}/predict/{{stage}}.tsv"
        priority: LONG_CHAIN
        conda:
            "../envs/environment.yaml"
        threads: RUNTIME.predict.threads
        resources:
            **computes(RUNTIME.predict),
        params:
            folder=f"{STAGES}/predict/{{stage}}",
            options=f"{PREDICT} {SAVING}",
        message:
            "Predicting {wildcards.stage}"
        shell:
            "stpp predict {params.folder:q} {params.options} >{log:q} 2>&1"

else:

    rule predict_shard:
        input:
            unpack(GRAPH.reads("predict")),
        output:
            part=temp(PART),
        log:
            f"{LOGS}/predict/{{stage}}-{{shard}}-of-{{shards}}.log",
        benchmark:
            f"{LOGS}/predict/{{stage}}-{{shard}}-of-{{shards}}.tsv"
        priority: LONG_CHAIN
        conda:
            "../envs/environment.yaml"
        threads: RUNTIME.predict.threads
        resources:
            **computes(RUNTIME.predict),
        params:
            folder=f"{STAGES}/predict/{{stage}}",
            options=f"{PREDICT} {SAVING}",
        message:
            "Predicting {wildcards.stage}, part {wildcards.shard} of {wildcards.shards}"
        shell:
            "stpp predict {params.folder:q} {params.options}"
            " --shard {wildcards.shard} --shards {wildcards.shards} >{log:q} 2>&1"

    rule join_shards:
        input:
            parts=expand(PART, shard=range(RUNTIME.shards), shards=RUNTIME.shards, allow_missing=True),
        output:
            **GRAPH.writes("predict"),
        log:
            f"{LOGS}/predict/{{stage}}.log",
        benchmark:
            f"{LOGS}/predict/{{stage}}.tsv"
        priority: LONG_CHAIN
        conda:
            "../envs/environment.yaml"
        resources:
            **asks(memory=2000, minutes=60),
        params:
            folder=f"{STAGES}/predict/{{stage}}",
            shards=RUNTIME.shards,
        message:
            "Joining the parts of {wildcards.stage}"
        shell:
            "stpp predict {params.folder:q} --join --shards {params.shards} >{log:q} 2>&1"
