# How long trainings have to be, where the configuration leaves that open.


rule find_length:
    input:
        unpack(GRAPH.reads("length")),
    output:
        **GRAPH.writes("length"),
    log:
        f"{LOGS}/length/{{stage}}.log",
    priority: LONG_CHAIN
    conda:
        "../envs/environment.yaml"
    threads: RUNTIME.train.threads + RUNTIME.train.workers
    resources:
        **computes(RUNTIME.train.model_copy(update={"gpu": min(1, RUNTIME.train.gpu)})),
    params:
        folder=subpath(output[0], parent=True),
        options=f"--device {RUNTIME.device} --gpus {min(1, RUNTIME.train.gpu)} --threads {RUNTIME.train.threads} --workers {RUNTIME.train.workers} --cache {RUNTIME.train.cache}{COMPILING} {SAVING}",
    message:
        "Finding how long trainings have to be, for {wildcards.stage}"
    shell:
        "stpp length {params.folder:q} {params.options} >{log:q} 2>&1"
