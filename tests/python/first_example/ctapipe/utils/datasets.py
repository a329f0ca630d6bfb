def get_path(name):
    return "data/" + name
