# The unlabeled images, split into reliable and unreliable ones.


rule select:
    input:
        reads("select"),
    output:
        f"{STAGES}/select/{{stage}}/reliable.txt",
        f"{STAGES}/select/{{stage}}/unreliable.txt",
        f"{STAGES}/select/{{stage}}/stage.json",
    log:
        f"{LOGS}/select/{{stage}}.log",
    benchmark:
        f"{LOGS}/select/{{stage}}.tsv"
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        mem_mb=1000,
        runtime=10,
    message:
        "Selecting {wildcards.stage}"
    shell:
        "stpp select {STAGES:q}/select/{wildcards.stage} >{log:q} 2>&1"
