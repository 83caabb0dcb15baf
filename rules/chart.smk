# Charts as in the paper, each from the table and the artifacts behind it.


rule chart:
    input:
        unpack(GRAPH.reads("chart")),
    output:
        **GRAPH.writes("chart", svg=partial(report, category="Charts", labels={"what": "{stage}"})),
    log:
        f"{LOGS}/chart/{{stage}}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
    message:
        "Drawing {wildcards.stage}"
    shell:
        "stpp chart {params.folder:q} >{log:q} 2>&1"
