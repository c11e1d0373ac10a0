/* Error function, within 2 ulp: an odd polynomial below 1, 1 - e^-p(|x|) above, where p approximates -log(1 - erf). */
static inline float tc_erf(float x)
{
    const float size = x < 0.0f ? -x : x;
    const float s = x * x;
    const float t = size < 4.0f ? size : 4.0f;
    const float odd = x + x * (0.12837911f + s * (-0.37612626f + s * (0.112836f + s * (-0.026854442f
        + s * (0.005189533f + s * (-0.0008020818f + s * 7.8890414e-5f))))));
    const float p = 0.00034128872f + t * (1.1270902f + t * (0.6381432f + t * (0.10310825f + t * (-0.021838803f
        + t * (0.0029478488f + t * -0.00018639921f)))));
    const float large = 1.0f - tc_exp(-p);
    return x != x ? x : size < 1.0f ? odd : x < 0.0f ? -large : large;
}
