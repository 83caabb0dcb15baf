# The unlabeled images, split into reliable and unreliable ones.


rule select:
    input:
        unpack(GRAPH.reads("select")),
    output:
        **GRAPH.writes("select"),
    log:
        f"{LOGS}/select/{{stage}}.log",
    priority: LONG_CHAIN
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
    message:
        "Selecting {wildcards.stage}"
    shell:
        "stpp select {params.folder:q} >{log:q} 2>&1"
