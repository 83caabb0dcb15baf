# Whether unlabeled images will probably pay.


rule look_ahead:
    input:
        unpack(GRAPH.reads("outlook")),
    output:
        **GRAPH.writes("outlook"),
    log:
        f"{LOGS}/outlook/{{stage}}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
    message:
        "Looking ahead for {wildcards.stage}"
    shell:
        "stpp outlook {params.folder:q} >{log:q} 2>&1"
