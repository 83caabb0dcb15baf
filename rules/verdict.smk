# The network to use, and why.


rule choose:
    input:
        unpack(GRAPH.reads("verdict")),
    output:
        **GRAPH.writes("verdict"),
    log:
        f"{LOGS}/verdict/{{stage}}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
    message:
        "Choosing {wildcards.stage}"
    shell:
        "stpp verdict {params.folder:q} >{log:q} 2>&1"
