# The page that shows what ran and what came out. It asks for what a prediction does, because it predicts the images
# that it shows.


rule write_report:
    input:
        unpack(GRAPH.reads("report")),
    output:
        **GRAPH.writes("report", page=partial(report, category="Results", labels={"what": "the report"})),
    log:
        f"{LOGS}/report/{{stage}}.log",
    conda:
        "../envs/environment.yaml"
    threads: RUNTIME.predict.threads
    resources:
        **computes(RUNTIME.predict),
    params:
        folder=subpath(output[0], parent=True),
        options=PREDICT,
    message:
        "Writing {wildcards.stage}"
    shell:
        "stpp report {params.folder:q} {params.options} >{log:q} 2>&1"
