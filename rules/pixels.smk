# The reliable pixels of pseudo-labels, the control to the selection of images.


rule pixels:
    input:
        unpack(GRAPH.reads("pixels")),
    output:
        **GRAPH.writes("pixels"),
    log:
        f"{LOGS}/pixels/{{stage}}.log",
    priority: LONG_CHAIN
    conda:
        "../envs/environment.yaml"
    resources:
        **asks(),
    params:
        folder=subpath(output[0], parent=True),
    message:
        "Selecting {wildcards.stage}"
    shell:
        "stpp pixels {params.folder:q} >{log:q} 2>&1"
