# mIoU of the models on val and test, and of pseudo-labels where true masks happen to exist.


rule evaluate:
    input:
        unpack(GRAPH.reads("evaluate")),
    output:
        **GRAPH.writes("evaluate"),
    log:
        f"{LOGS}/evaluate/{{stage}}.log",
    conda:
        "../envs/environment.yaml"
    threads: RUNTIME.predict.threads + RUNTIME.predict.workers
    resources:
        **computes(RUNTIME.predict),
    params:
        folder=subpath(output[0], parent=True),
        options=PREDICT,
    message:
        "Evaluating {wildcards.stage}"
    shell:
        "stpp evaluate {params.folder:q} {params.options} >{log:q} 2>&1"
