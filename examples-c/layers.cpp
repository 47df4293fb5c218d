/* A network as C++ codes have them: layers that own their vectors. lopt.hpp takes them as they are, throws what goes wrong, and
 * frees the optimizer with the model. Learns y = sin(3 a) cos(2 b), stops half-way, and goes on from a checkpoint in memory.
 *
 *     c++ -std=c++17 layers.cpp $(pkg-config --cflags --libs lopt) && ./a.out
 */
#include <lopt.hpp>

#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

struct Dense {
    std::size_t outputs, inputs;
    std::vector<float> w, b, dw, db, y, dy;

    Dense(std::size_t outputs, std::size_t inputs, std::mt19937 &random)
        : outputs(outputs), inputs(inputs), w(outputs * inputs), b(outputs), dw(w.size()), db(outputs), y(outputs), dy(outputs) {
        std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(inputs)));
        for (float &element : w) element = normal(random);
    }
    void forward(const std::vector<float> &x) {
        for (std::size_t i = 0; i < outputs; i++) {
            y[i] = b[i];
            for (std::size_t j = 0; j < inputs; j++) y[i] += w[i * inputs + j] * x[j];
        }
    }
    /* Adds to dw and db; `dx` may be NULL. */
    void backward(const std::vector<float> &x, std::vector<float> *dx) {
        if (dx) dx->assign(inputs, 0);
        for (std::size_t i = 0; i < outputs; i++) {
            db[i] += dy[i];
            for (std::size_t j = 0; j < inputs; j++) {
                dw[i * inputs + j] += dy[i] * x[j];
                if (dx) (*dx)[j] += dy[i] * w[i * inputs + j];
            }
        }
    }
};

struct Model {
    Dense hidden, output;
    lopt::Optimizer opt;

    explicit Model(std::mt19937 &random) : hidden(32, 2, random), output(1, 32, random) {
        add("hidden", hidden);
        add("output", output);
    }
    void add(const std::string &name, Dense &layer) {
        opt.add(name + ".weight", layer.w, layer.dw, {layer.outputs, layer.inputs});
        opt.add(name + ".bias", layer.b, layer.db);
    }
    /* One step on a batch; returns its mean squared error. */
    float train(std::mt19937 &random, std::size_t batch) {
        std::uniform_real_distribution<float> uniform(-1, 1);
        float loss = 0;
        for (auto *gradient : {&hidden.dw, &hidden.db, &output.dw, &output.db}) gradient->assign(gradient->size(), 0);
        for (std::size_t i = 0; i < batch; i++) {
            const std::vector<float> x = {uniform(random), uniform(random)};
            hidden.forward(x);
            std::vector<float> active = hidden.y;
            for (float &value : active) value = std::tanh(value);
            output.forward(active);
            const float error = output.y[0] - std::sin(3 * x[0]) * std::cos(2 * x[1]);
            loss += error * error / static_cast<float>(batch);
            output.dy[0] = 2 * error / static_cast<float>(batch);
            output.backward(active, &hidden.dy);
            for (std::size_t j = 0; j < active.size(); j++) hidden.dy[j] *= 1 - active[j] * active[j];
            hidden.backward(x, nullptr);
        }
        opt.step();
        return loss;
    }
};

int main() try {
    std::mt19937 random(1);
    std::vector<unsigned char> checkpoint;
    Model first(random);
    for (int step = 0; step <= 1000; step++) {
        const float loss = first.train(random, 64);
        if (step % 200 == 0) std::printf("step %4d   loss %.6f\n", step, static_cast<double>(loss));
    }
    first.opt.write_state(checkpoint, LOPT_WITH_PARAMETERS);

    Model second(random);
    second.opt.read_state(checkpoint.data(), checkpoint.size(), LOPT_WITH_PARAMETERS);
    for (int step = 1001; step <= 2000; step++) {
        const float loss = second.train(random, 64);
        if (step % 200 == 0) std::printf("step %4d   loss %.6f\n", step, static_cast<double>(loss));
    }
} catch (const lopt::Error &error) {
    std::fprintf(stderr, "lopt: %s\n", error.what());
    return 1;
}
