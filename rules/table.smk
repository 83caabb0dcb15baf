# The table of all experiments.


rule write_table:
    input:
        unpack(GRAPH.reads("table")),
    output:
        report(f"{STAGES}/table/{{stage}}/table.csv", category="Results", labels={"what": "experiments"}),
        report(f"{STAGES}/table/{{stage}}/runs.csv", category="Results", labels={"what": "runs"}),
        f"{STAGES}/table/{{stage}}/table.txt",
        f"{STAGES}/table/{{stage}}/metrics.json",
        f"{STAGES}/table/{{stage}}/stage.json",
    log:
        f"{LOGS}/table/{{stage}}.log",
    benchmark:
        f"{LOGS}/table/{{stage}}.tsv"
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
