# The stability of the K masks of each unlabeled image.


rule score:
    input:
        unpack(GRAPH.reads("score")),
    output:
        **GRAPH.writes("score"),
    log:
        f"{LOGS}/score/{{stage}}.log",
    priority: LONG_CHAIN
    conda:
        "../envs/environment.yaml"
    resources:
        **asks(),
    params:
        folder=subpath(output[0], parent=True),
        options=SAVING,
    message:
        "Scoring {wildcards.stage}"
    shell:
        "stpp score {params.folder:q} {params.options} >{log:q} 2>&1"
