# Teachers and students. K differs between experiments, and with it the files that a teacher writes, so there is one
# rule for each set of files. The initial weights are fetched where there is internet: on the submit host.

for trainings in GRAPH.trainings():

    rule:
        name:
            training_rule(trainings.name)
        input:
            unpack(GRAPH.reads("train")),
        output:
            **trainings.files,
        log:
            f"{LOGS}/train/{{stage}}.log",
        wildcard_constraints:
            stage=f"{trainings.name}-[^/]+",
        priority: LAST_TRAINING if trainings.last else LONG_CHAIN
        conda:
            "../envs/environment.yaml"
        threads: max(1, RUNTIME.train.gpu) * (RUNTIME.train.threads + RUNTIME.train.workers)
        resources:
            **computes(RUNTIME.train),
        params:
            folder=subpath(output[0], parent=True),
            options=f"--device {RUNTIME.device} --gpus {RUNTIME.train.gpu} --threads {RUNTIME.train.threads} --workers {RUNTIME.train.workers} --cache {RUNTIME.train.cache}{COMPILING} {SAVING}",
        message:
            "Training {wildcards.stage}"
        shell:
            "stpp train {params.folder:q} {params.options} >{log:q} 2>&1"


rule weights:
    output:
        weights=f"{RESULTS}/{disk.WEIGHTS}/{{backbone}}-{{release}}.pth",
    log:
        f"{LOGS}/weights/{{backbone}}-{{release}}.log",
    wildcard_constraints:
        release="|".join(stages.PUBLISHED.values()),
    localrule: True
    conda:
        "../envs/environment.yaml"
    message:
        "Fetching the published weights of {wildcards.backbone}"
    shell:
        "stpp weights {wildcards.backbone:q} {output:q} >{log:q} 2>&1"
