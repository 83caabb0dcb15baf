# The unlabeled images, or the pixels of their pseudo-labels, split into reliable and unreliable ones.


rule select:
    input:
        unpack(GRAPH.reads("select")),
    output:
        f"{STAGES}/select/{{stage}}/reliable.txt",
        f"{STAGES}/select/{{stage}}/unreliable.txt",
        f"{STAGES}/select/{{stage}}/stage.json",
    log:
        f"{LOGS}/select/{{stage}}.log",
    benchmark:
        f"{LOGS}/select/{{stage}}.tsv"
    wildcard_constraints:
        stage="(stable|random)-[^/]+",
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


rule select_pixels:
    input:
        unpack(GRAPH.reads("select")),
    output:
        f"{STAGES}/select/{{stage}}/masks.h5",
        f"{STAGES}/select/{{stage}}/stage.json",
    log:
        f"{LOGS}/select/{{stage}}.log",
    benchmark:
        f"{LOGS}/select/{{stage}}.tsv"
    wildcard_constraints:
        stage="pixels-[^/]+",
    priority: LONG_CHAIN
    conda:
        "../envs/environment.yaml"
    resources:
        **asks(memory=2000, minutes=60),
    params:
        folder=subpath(output[0], parent=True),
    message:
        "Selecting {wildcards.stage}"
    shell:
        "stpp select {params.folder:q} >{log:q} 2>&1"
