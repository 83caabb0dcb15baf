# The table of all experiments.


rule write_table:
    input:
        unpack(GRAPH.reads("table")),
    output:
        **GRAPH.writes(
            "table",
            table=partial(report, category="Results", labels={"what": "experiments"}),
            runs=partial(report, category="Results", labels={"what": "runs"}),
        ),
    log:
        f"{LOGS}/table/{{stage}}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        folder=subpath(output[0], parent=True),
    message:
        "Gathering {wildcards.stage}"
    shell:
        "stpp table {params.folder:q} >{log:q} 2>&1"
