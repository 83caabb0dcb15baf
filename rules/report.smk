# The table of all experiments.


rule report:
    input:
        GRAPH.reads("report"),
    output:
        f"{STAGES}/report/{{stage}}/table.csv",
        f"{STAGES}/report/{{stage}}/runs.csv",
        f"{STAGES}/report/{{stage}}/table.txt",
        f"{STAGES}/report/{{stage}}/metrics.json",
        f"{STAGES}/report/{{stage}}/stage.json",
    log:
        f"{LOGS}/report/{{stage}}.log",
    benchmark:
        f"{LOGS}/report/{{stage}}.tsv"
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
        "stpp report {params.folder:q} >{log:q} 2>&1"
